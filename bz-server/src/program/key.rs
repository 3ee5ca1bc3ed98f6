//! `bz-server key`.

use bz_server::config::Config;
use bz_server::seam::{Clock as _, SystemClock, SystemEntropy};
use bz_server::store::Store;

use crate::print;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Key {
    /// Have the running server make new online keys, which sign grants, orders to agents and records, under its root.
    ///
    /// Agents and clients believe them by the root that they pin, and sessions go on. It makes new ones each twelve hours by
    /// itself, and at each start.
    Rotate,
}

impl Key {
    pub(crate) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let Self::Rotate = self;
        let (store, now) = (Store::open(&config.data)?, SystemClock::new().now().wall);
        bz_server::admin::rotate_keys(config, &store, &SystemEntropy, now).await?;
        print(
            "The running server makes new online keys within half a minute; a server that is started makes them anyway.\n",
        )
    }
}
