//! The identity provider's side of a login: discovery, the page's address, code and refresh exchanges.
//!
//! What the tokens say is checked by `bz_core`, as a target would check it, not by the OpenID library.

use std::pin::Pin;

use bz_core::api::login::LoginSettings;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::{Provider, ProviderKind};
use openidconnect::core::{
    CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreErrorResponseType,
    CoreProviderMetadata, CoreTokenResponse,
};
use openidconnect::{
    AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, DiscoveryError, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardErrorResponse,
    TokenResponse as _,
};
use url::Url;

use crate::http::{Http, HttpError};
use crate::secret::Secret;
use crate::server::{Roots, Server, is_safe};
use crate::shown::shown;

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Why the provider gave no usable tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderFailed {
    /// There is no answer.
    #[error("the identity provider: {0}")]
    NoAnswer(#[from] HttpError),
    /// Its metadata cannot be used.
    #[error("the identity provider's metadata at {issuer} cannot be used: {cause}")]
    Metadata {
        /// The issuer.
        issuer: String,
        /// What is wrong.
        cause: String,
    },
    /// It does not take the client, whoever logs in.
    #[error(
        "the identity provider does not accept this client: {0}. Its id is the first audience of the trust bundle; where \
         the provider gave it a secret, as Google does, your administrator writes that under [[login]] in the server's \
         settings"
    )]
    Client(String),
    /// It refused the code or the refresh token.
    #[error("the identity provider refuses: {0}; log in again")]
    Refused(String),
    /// The answer holds no ID token.
    #[error("the identity provider sends no new ID token: log in again")]
    NoIdToken,
    /// The answer is not understood.
    #[error(
        "the identity provider's answer is not understood: {0}. Log in again; when that does not help, tell your \
         administrator"
    )]
    Answer(String),
}

/// A provider, found.
pub(super) struct Oidc {
    client: Client,
    http: Http,
    jwks: Jwks,
    kind: ProviderKind,
    issuer: String,
    /// What the provider says that it knows.
    scopes: Option<Vec<String>>,
    /// What the server says that clients ask for.
    more_scopes: Vec<String>,
}

/// A page to show, and what is kept to make use of its answer.
pub(super) struct Page {
    pub(super) url: Url,
    pub(super) state: String,
    verifier: PkceCodeVerifier,
}

/// What an exchange gave.
pub(super) struct Tokens {
    pub(super) id: Secret,
    pub(super) refresh: Option<Secret>,
}

impl Oidc {
    /// Discovers the pinned provider; roots and proxies as for the server, save pins, which are the server's own.
    pub(super) async fn discover(provider: &Provider, server: &Server) -> Result<Self, ProviderFailed> {
        let failed = |cause: String| ProviderFailed::Metadata { issuer: provider.issuer.clone(), cause: shown(&cause) };
        let issuer = IssuerUrl::new(provider.issuer.clone()).map_err(|e| failed(e.to_string()))?;
        let platform = Roots::Platform;
        let roots = if matches!(server.roots(), Roots::Pins(_)) { &platform } else { server.roots() };
        let http = Http::new(roots, issuer.url(), server.proxies())?;
        let metadata = CoreProviderMetadata::discover_async(issuer, &http).await.map_err(|e| {
            let text = e.to_string();
            if let DiscoveryError::Request(error) = e { error.into() } else { failed(text) }
        })?;
        let keys = serde_json::to_vec(metadata.jwks()).map_err(|e| failed(e.to_string()))?;
        let jwks = Jwks::parse(&keys).map_err(|e| failed(e.to_string()))?;
        if !is_safe(metadata.authorization_endpoint().url()) {
            return Err(failed("its login page is not https".to_owned()));
        }
        let scopes = metadata.scopes_supported().map(|all| all.iter().map(|scope| scope.to_string()).collect());
        let id = provider.audiences.first().cloned().unwrap_or_default();
        // RFC 8414: who lists nothing takes `client_secret_basic`.
        let takes_basic = metadata
            .token_endpoint_auth_methods_supported()
            .is_none_or(|all| all.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let auth = if takes_basic { AuthType::BasicAuth } else { AuthType::RequestBody };
        let client = CoreClient::from_provider_metadata(metadata, ClientId::new(id), None).set_auth_type(auth);
        let (kind, issuer) = (provider.kind, provider.issuer.clone());
        Ok(Self { client, http, jwks, kind, issuer, scopes, more_scopes: Vec::new() })
    }

    /// The same, telling it what the server says that it wants to hear.
    pub(super) fn with(self, settings: LoginSettings) -> Self {
        let client = match settings.client_secret {
            Some(secret) => self.client.set_client_secret(ClientSecret::new(secret)),
            None => self.client,
        };
        Self { client, more_scopes: settings.scopes, ..self }
    }

    /// The keys that verify its tokens.
    pub(super) const fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    /// The page that asks the person to log in, with this nonce.
    pub(super) fn page(&self, redirect: &str, nonce: &str) -> Result<Page, ProviderFailed> {
        let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|e| ProviderFailed::Answer(e.to_string()))?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = Nonce::new(nonce.to_owned());
        let client = self.client.clone().set_redirect_uri(redirect);
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, move || nonce)
            .set_pkce_challenge(challenge)
            .add_scopes(self.scopes().into_iter().map(|scope| Scope::new(scope.to_owned())));
        if self.kind == ProviderKind::Google {
            request = request.add_extra_param("access_type", "offline");
        }
        // OpenID Connect Core, 11: without a fresh consent, offline access is ignored. The other kinds do not follow
        // it, and some ask an administrator instead of the person.
        if matches!(self.kind, ProviderKind::Google | ProviderKind::Oidc) {
            request = request.add_prompt(CoreAuthPrompt::Consent);
        }
        let (url, state, _) = request.url();
        Ok(Page { url, state: state.into_secret(), verifier })
    }

    /// Tokens for a code.
    pub(super) async fn exchange(&self, page: Page, redirect: &str, code: String) -> Result<Tokens, ProviderFailed> {
        let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|e| ProviderFailed::Answer(e.to_string()))?;
        let client = self.client.clone().set_redirect_uri(redirect);
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|_| self.no_endpoint())?;
        tokens(&request.set_pkce_verifier(page.verifier).request_async(&self.http).await.map_err(refused)?)
    }

    /// New tokens for a refresh token.
    pub(super) async fn refresh(&self, refresh: &Secret) -> Result<Tokens, ProviderFailed> {
        let token = RefreshToken::new(refresh.reveal().to_owned());
        let request = self.client.exchange_refresh_token(&token).map_err(|_| self.no_endpoint())?;
        tokens(&request.request_async(&self.http).await.map_err(refused)?)
    }

    fn scopes(&self) -> Vec<&str> {
        let offers = |scope: &str| self.scopes.as_ref().map(|all| all.iter().any(|s| s == scope));
        let mut scopes = vec!["email", "profile"];
        // A provider that lists its scopes and not this one (Google) has another way, or none.
        if offers("offline_access") != Some(false) {
            scopes.push("offline_access");
        }
        if offers("groups") == Some(true) {
            scopes.push("groups");
        }
        for more in &self.more_scopes {
            if !scopes.contains(&more.as_str()) {
                scopes.push(more);
            }
        }
        scopes
    }

    fn no_endpoint(&self) -> ProviderFailed {
        ProviderFailed::Metadata { issuer: self.issuer.clone(), cause: "it names no token endpoint".to_owned() }
    }
}

fn tokens(answer: &CoreTokenResponse) -> Result<Tokens, ProviderFailed> {
    let id = answer.id_token().ok_or(ProviderFailed::NoIdToken)?;
    Ok(Tokens {
        id: Secret::new(id.to_string()),
        refresh: answer.refresh_token().map(|token| Secret::new(token.secret().clone())),
    })
}

fn refused(error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>) -> ProviderFailed {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            let text = shown(&answer.to_string());
            let client = matches!(
                answer.error(),
                CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient
            );
            // Google calls a client without its secret an invalid request.
            if client || text.contains("client_secret") {
                ProviderFailed::Client(text)
            } else {
                ProviderFailed::Refused(text)
            }
        }
        RequestTokenError::Request(error) => ProviderFailed::NoAnswer(error),
        // The body may hold tokens: only the place of the error is told.
        RequestTokenError::Parse(error, _) => ProviderFailed::Answer(match error.path().to_string().as_str() {
            "." => "it is malformed".to_owned(),
            place => format!("it is malformed at {place}"),
        }),
        RequestTokenError::Other(text) => ProviderFailed::Answer(shown(&text)),
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let odd = |error: String| HttpError::Unreachable { host: "the provider".to_owned(), cause: error };
            let request = request.try_into().map_err(|e: reqwest::Error| odd(e.to_string()))?;
            let answer = self.send(request).await?;
            let mut response = HttpResponse::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}
