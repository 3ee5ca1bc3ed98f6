//! `bz api-key`: keys for programs, and for registering targets.

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_core::api::api_key::cidr::Cidr;
use bz_core::api::api_key::{ApiKey as Body, ApiKeyMade, ChangeApiKey, NewApiKey, OwnerType, RotateApiKey, Scope};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::command::{environment, user};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// What `bz api-key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// List the keys: what each may do, whose it is, when it ends and when it was used; secrets are never shown again
    List,
    /// Make a key and show its secret, this once
    Create(Create),
    /// Change a key; what is not named stays
    Edit(Edit),
    /// Give a key another secret and show it, this once; the old one is void
    Rotate {
        /// The key, by name or id
        key: String,
        /// For how many hours the old secret opens as well
        #[arg(long, value_name = "HOURS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=168))]
        overlap_hours: u32,
    },
    /// Delete a key, and the tokens that were made of it
    Delete {
        /// The key, by name or id
        key: String,
    },
}

/// What `bz api-key create` takes.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The key's name
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// It can register targets, and nothing else
    #[arg(long, short)]
    registration: bool,
    /// What it may do: everything, unless you say
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', conflicts_with = "registration")]
    scope: Vec<Scope>,
    /// When it ends by itself, such as 2030-01-31T18:00:00Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// An address or range such as 192.0.2.0/24 that it is taken from; may be given several times
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    from: Vec<Cidr>,
    /// The person or service account whose it is, and with which it ends
    #[arg(long, value_name = "USER", conflicts_with = "application")]
    owner: Option<String>,
    /// The program whose it is
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// The only environment that it registers targets in
    #[arg(long, requires = "registration")]
    environment: Option<String>,
    /// How many targets it registers, 1 to 1000
    #[arg(long, requires = "registration", value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: Option<u32>,
}

/// What `bz api-key edit` takes.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The key, by name or id
    key: String,
    /// Its name from now on
    #[arg(long)]
    name: Option<String>,
    /// What it may do from now on
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// When it ends by itself, or `never`
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// An address or range that it is taken from; may be given several times
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    from: Vec<Cidr>,
    /// Take it from anywhere
    #[arg(long, conflicts_with = "from")]
    from_anywhere: bool,
    /// Have it open what it opened
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Have it open nothing
    #[arg(long)]
    disable: bool,
}

impl ApiKey {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::List => {
                let keys = client.api_keys().await?;
                context.output.list(&keys, || table(&keys))?;
            }
            Self::Create(create) => create.run(context, &client).await?,
            Self::Edit(edit) => edit.run(context, &client).await?,
            Self::Rotate { key, overlap_hours } => {
                let found = find(&client, &key).await?;
                let made = client.rotate_api_key(found.id, &RotateApiKey { overlap_hours }).await?;
                show_secret(context, &made, "has another secret")?;
            }
            Self::Delete { key } => {
                let found = find(&client, &key).await?;
                client.delete_api_key(found.id).await?;
                let value = json!({"name": found.name, "id": found.id});
                context.output.result(&value, &format!("Key {} was deleted.", named(&found)))?;
            }
        }
        Ok(Exit::Fine)
    }
}

impl Create {
    async fn run(self, context: &Context<'_>, client: &Client) -> anyhow::Result<()> {
        let owner_id = match &self.owner {
            Some(owner) => Some(user::find(client, owner).await?.id),
            None => None,
        };
        let environment_id = match &self.environment {
            Some(name) => Some(environment::find(client, name).await?.id),
            None => None,
        };
        let key = NewApiKey {
            name: self.name,
            is_registration_key: self.registration,
            scopes: (!self.scope.is_empty()).then_some(self.scope),
            expires_at: self.expires,
            allowed_addresses: self.from,
            owner_id,
            owner_application: self.application,
            environment_id,
            uses: self.uses,
        };
        show_secret(context, &client.create_api_key(&key).await?, "was made")
    }
}

impl Edit {
    async fn run(self, context: &Context<'_>, client: &Client) -> anyhow::Result<()> {
        let found = find(client, &self.key).await?;
        let ranges = self.from_anywhere || !self.from.is_empty();
        let change = ChangeApiKey {
            name: self.name,
            enabled: (self.enable || self.disable).then_some(self.enable),
            scopes: (!self.scope.is_empty()).then_some(self.scope),
            expires_at: self.expires,
            allowed_addresses: ranges.then_some(self.from),
        };
        let changed = client.change_api_key(found.id, &change).await?;
        Ok(context.output.result(&changed, &format!("Key {} was changed.", named(&changed)))?)
    }
}

/// Says what became of a key, and its secret alone as the result.
pub(super) fn show_secret(context: &Context<'_>, made: &ApiKeyMade, what: &str) -> anyhow::Result<()> {
    let key = named(&made.api_key_details);
    context.output.say(&format!("Key {key} {what}. Its secret, shown this once; keep it in a vault:"));
    Ok(context.output.result(made, &made.secret)?)
}

/// The key of this name or id.
pub(super) async fn find(client: &Client, name: &str) -> anyhow::Result<Body> {
    let all = client.api_keys().await?;
    let mut fitting: Vec<_> = all.into_iter().filter(|key| key.name == name || key.id.to_string() == name).collect();
    if fitting.len() > 1 {
        let ids = fitting.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ");
        bail!("several keys are called {name}: name one by its id, of {ids}");
    }
    fitting.pop().with_context(|| format!("there is no key {name}: `bz api-key list` lists them"))
}

fn named(key: &Body) -> String {
    if key.name.is_empty() { key.id.to_string() } else { format!("{} ({})", key.name, key.id) }
}

fn table(keys: &[Body]) -> Table {
    let headings = ["Name", "For", "Owner", "From", "Ends", "Last used", "State", "Id"];
    let mut table = Table::new(headings, "No API keys.");
    for key in keys {
        table.row([
            key.name.as_str().into(),
            purpose(key).into(),
            owner(key).into(),
            join(&key.allowed_addresses, "anywhere").into(),
            key.expires_at.as_deref().map_or_else(|| "never".to_owned(), local).into(),
            last_use(key).into(),
            if key.enabled { Field::toned(&"enabled", Tone::Good) } else { Field::toned(&"disabled", Tone::Faint) },
            key.id.into(),
        ]);
    }
    table
}

fn purpose(key: &Body) -> String {
    match (key.is_registration_key, key.uses_left) {
        (false, _) => format!("access: {}", join(&key.scopes, "all")),
        (true, None) => "registering targets".to_owned(),
        (true, Some(1)) => "registering 1 more target".to_owned(),
        (true, Some(left)) => format!("registering {left} more targets"),
    }
}

fn owner(key: &Body) -> String {
    let Some(owner) = &key.owner else { return "organization".to_owned() };
    let kind = match owner.kind {
        OwnerType::Application => "application",
        OwnerType::EndUser => "user",
        OwnerType::Administrator => "administrator",
    };
    format!("{kind} {}", owner.name)
}

fn last_use(key: &Body) -> String {
    match (&key.last_used_at, &key.last_used_from) {
        (Some(at), Some(from)) => format!("{} from {from}", local(at)),
        _ => "never".to_owned(),
    }
}

fn join(items: &[impl ToString], none: &str) -> String {
    if items.is_empty() {
        none.to_owned()
    } else {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
