//! `bz-agent ssh-ca`: the lines with which this host's sshd lets people in through this agent.

use std::path::Path;

use bz_agent::ssh::Authority;

use crate::cli::SshCa;

pub(crate) fn ssh_ca(folder: &Path, options: &SshCa) -> anyhow::Result<()> {
    let authority = Authority::open(folder)?;
    if options.key {
        return crate::print(&authority.line());
    }
    let public = authority.public().display();
    crate::print(&format!(
        "\
# Lets people in whose session the agent of this host has admitted: the key below signs for this host alone.
# Write these lines to /etc/ssh/sshd_config.d/bz-agent.conf, then run: sshd -t && systemctl reload ssh
# sshd takes the first TrustedUserCAKeys that it reads. Where it has one already, append the key to that file:
#   bz-agent ssh-ca --key >> FILE
TrustedUserCAKeys \"{public}\"
"
    ))
}
