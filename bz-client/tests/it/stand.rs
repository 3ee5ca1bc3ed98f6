//! A server and an identity provider on loopback, real sockets and real evidence, and a person at a browser.

pub(crate) mod provider;
pub(crate) mod server;
pub(crate) mod web;

use std::sync::Arc;

use bz_client::client::Client;
use bz_client::login::{Browser, BrowserFailed, Login, LoginOptions, Opening};
use bz_client::pins::{FirstContact, MemoryPins};
use bz_client::server::Server;
use bz_client::trust::Trust;
use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::trust::TrustBundle;
use url::Url;

use provider::TestProvider;
use server::TestServer;

pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([9; 16]);

/// Everything a login needs.
pub(crate) struct Stand {
    pub(crate) provider: TestProvider,
    pub(crate) rest: TestServer,
    pub(crate) server: Server,
    pub(crate) trust: Trust,
}

impl Stand {
    pub(crate) async fn new() -> Self {
        let provider = TestProvider::start().await;
        let bundle = TrustBundle {
            organization: ORGANIZATION,
            roots: vec![root().public()],
            directory_key: None,
            service_accounts: vec![],
            providers: vec![provider.pinned()],
        };
        let rest = TestServer::start(bundle.clone(), provider.jwks()).await;
        let server = Server::new(&rest.url).unwrap();
        Self { provider, rest, server, trust: Trust::given(bundle).unwrap() }
    }

    pub(crate) async fn login(&self) -> Login {
        Login::begin(&self.server, &self.trust, &LoginOptions::default(), &Walk::Visit).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        let client = Client::new(&self.server, self.trust.clone(), self.login().await).unwrap();
        client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept)
    }
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32]).unwrap()
}

/// The server's root key.
pub(crate) fn root() -> PrivateKey {
    key(100)
}

/// A person who logs in at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Walk {
    /// In a browser on this machine, which follows the redirect.
    Visit,
    /// In a browser elsewhere: the redirect is pasted.
    Paste,
    /// After a stranger's page sent wrong redirects to the port.
    Disturbed,
    /// With a redirect whose state was changed.
    WrongState,
    /// With a page that is not the redirect at all.
    OtherPage,
    /// Who says no at the provider.
    Refuse,
}

impl Browser for Walk {
    fn open<'a>(&'a self, url: &'a Url) -> Opening<'a> {
        Box::pin(async move { self.walk(url).await.map_err(|error| BrowserFailed(error.to_string())) })
    }
}

impl Walk {
    async fn walk(self, url: &Url) -> std::io::Result<Option<Url>> {
        let mut page = url.clone();
        if matches!(self, Self::Refuse) {
            page.query_pairs_mut().append_pair("refuse", "1");
        }
        let redirect = Url::parse(&web::get(&page).await?.location.expect("the provider redirects")).unwrap();
        match self {
            Self::Paste => return Ok(Some(redirect)),
            Self::OtherPage => return Ok(Some(Url::parse("https://idp.example/?code=1&state=2").unwrap())),
            Self::WrongState => {
                let changed = redirect.as_str().replace("state=", "state=x");
                return Ok(Some(Url::parse(&changed).unwrap()));
            }
            Self::Visit | Self::Disturbed | Self::Refuse => {}
        }
        if matches!(self, Self::Disturbed) {
            for (path, status) in [("/favicon.ico", 404), ("/callback?code=evil&state=evil", 400), ("/callback", 400)] {
                assert_eq!(web::get(&redirect.join(path).unwrap()).await?.status, status, "{path}");
            }
        }
        let page = web::get(&redirect).await?;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.body.contains("terminal"), "{page:?}");
        Ok(None)
    }
}
