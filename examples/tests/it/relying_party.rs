//! A client of an OpenID provider, made of the `openidconnect` crate and nothing of ours, so that a provider is judged
//! by somebody else's reading of the specification.

use std::fmt;
use std::pin::Pin;

use bz_examples::browser::{authorize_without_browser, loopback_client};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AsyncHttpClient, AuthorizationCode, ClaimsVerificationError, Client, ClientId, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdToken,
    IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardErrorResponse, StandardTokenResponse,
};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) const CLIENT_ID: &str = "bz-cli";
pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1:54321/callback";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Organization {
    pub(crate) hd: Option<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
}

impl AdditionalClaims for Organization {}

pub(crate) type Claims = IdTokenClaims<Organization, CoreGenderClaim>;
type Token = IdToken<Organization, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Fields = IdTokenFields<
    Organization,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Oidc = Client<
    Organization,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A configured client with the keys it fetched at [`RelyingParty::discover`].
pub(crate) struct RelyingParty {
    http: Http,
    oidc: Oidc,
}

/// A login that was begun.
pub(crate) struct Attempt {
    pub(crate) url: Url,
    pub(crate) verifier: PkceCodeVerifier,
    state: CsrfToken,
}

/// What a login or a refresh brought.
pub(crate) struct Tokens {
    pub(crate) id_token: String,
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
}

impl RelyingParty {
    pub(crate) async fn discover(issuer: &str) -> Self {
        let http = Http(loopback_client().unwrap());
        let issuer = IssuerUrl::new(issuer.to_owned()).unwrap();
        let metadata = CoreProviderMetadata::discover_async(issuer, &http).await.expect("discovery and JWKS");
        let oidc = Oidc::from_provider_metadata(metadata, ClientId::new(CLIENT_ID.to_owned()), None)
            .set_redirect_uri(RedirectUrl::new(REDIRECT_URI.to_owned()).unwrap());
        Self { http, oidc }
    }

    pub(crate) fn begin(&self, nonce: &str) -> Attempt {
        let nonce = Nonce::new(nonce.to_owned());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = ["offline_access", "email", "profile", "groups"].map(|scope| Scope::new(scope.to_owned()));
        let (url, state, _) = self
            .oidc
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, || nonce)
            .add_scopes(scopes)
            .add_prompt(CoreAuthPrompt::Consent)
            .set_pkce_challenge(challenge)
            .url();
        Attempt { url, verifier, state }
    }

    pub(crate) async fn login(&self, user: &str, nonce: &str) -> Tokens {
        let attempt = self.begin(nonce);
        let redirect = authorize_without_browser(&attempt.url, user).await.expect("the login page lets the user in");
        assert_eq!(parameter(&redirect, "state").as_deref(), Some(attempt.state.secret().as_str()), "{redirect}");
        let code = parameter(&redirect, "code").unwrap_or_else(|| panic!("no code in {redirect}"));
        self.exchange(&code, attempt.verifier).await.expect("the code is good")
    }

    /// The error is the provider's error code.
    pub(crate) async fn exchange(&self, code: &str, verifier: PkceCodeVerifier) -> Result<Tokens, String> {
        let request = self.oidc.exchange_code(AuthorizationCode::new(code.to_owned())).unwrap();
        request.set_pkce_verifier(verifier).request_async(&self.http).await.map(Tokens::from).map_err(told)
    }

    /// The error is the provider's error code.
    pub(crate) async fn refresh(&self, tokens: &Tokens) -> Result<Tokens, String> {
        let shown = RefreshToken::new(tokens.refresh.clone().expect("the login gave a refresh token"));
        let request = self.oidc.exchange_refresh_token(&shown).unwrap();
        request.request_async(&self.http).await.map(Tokens::from).map_err(told)
    }

    pub(crate) fn verify(&self, id_token: &str, nonce: Option<&str>) -> Result<Claims, ClaimsVerificationError> {
        let token: Token =
            id_token.parse().map_err(|error| ClaimsVerificationError::Other(format!("no JWT: {error}")))?;
        let matches = |found: Option<&Nonce>| {
            let found = found.map(|found| found.secret().as_str());
            if found == nonce { Ok(()) } else { Err(format!("the nonce is {found:?}, not {nonce:?}")) }
        };
        token.claims(&self.oidc.id_token_verifier(), matches).cloned()
    }
}

impl From<StandardTokenResponse<Fields, CoreTokenType>> for Tokens {
    fn from(response: StandardTokenResponse<Fields, CoreTokenType>) -> Self {
        Self {
            id_token: response.extra_fields().id_token().expect("an ID token").to_string(),
            access: response.access_token().secret().clone(),
            refresh: response.refresh_token().map(|token| token.secret().clone()),
        }
    }
}

pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn told(error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>) -> String {
    match error {
        RequestTokenError::ServerResponse(response) => response.error().to_string(),
        other @ (RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => {
            panic!("not an OAuth error: {other:?}")
        }
    }
}

struct Http(reqwest::Client);

#[derive(Debug)]
struct HttpError(String);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let response = self.0.execute(request.try_into()?).await?;
            let mut built = openidconnect::http::Response::builder().status(response.status());
            for (name, value) in response.headers() {
                built = built.header(name, value);
            }
            let body = response.bytes().await?;
            built.body(body.to_vec()).map_err(|error| HttpError(error.to_string()))
        })
    }
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        Self(format!("{error:?}"))
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpError {}
