//! `bz policy organization-controls`.

use bz_core::api::mfa::ChangeControls;
use clap::Args;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::Table;

/// What `bz policy organization-controls` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "What is once demanded of everybody stays demanded. An administrator can exempt one person: `bz \
                        user mfa disable`."
)]
pub(crate) struct OrganizationControls {
    /// Demand a second factor of everybody; this cannot be undone
    #[arg(long)]
    demand_mfa: bool,
    /// After how many hours a login is asked for its second factor again: 1 to 720
    #[arg(long, value_name = "HOURS")]
    mfa_hours: Option<u32>,
}

impl OrganizationControls {
    pub(super) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let change = ChangeControls {
            mfa_enabled: self.demand_mfa.then_some(true),
            mfa_duration: self.mfa_hours,
            ..ChangeControls::default()
        };
        let now = if change == ChangeControls::default() {
            client.organization_controls().await?
        } else {
            Some(client.change_organization_controls(&change).await?)
        };
        context.output.list(&now, || {
            let mut table = Table::new([], "");
            let demanded = now.as_ref().is_some_and(|policy| policy.content.mfa_enabled);
            let again = now.as_ref().and_then(|policy| policy.content.mfa_duration);
            table.row(["Second factor".into(), if demanded { "demanded of everybody" } else { "not demanded" }.into()]);
            let again = again.map_or_else(|| "at each login".to_owned(), |hours| format!("after {hours} hours"));
            table.row(["Asked for again".into(), again.into()]);
            table
        })?;
        Ok(Exit::Fine)
    }
}
