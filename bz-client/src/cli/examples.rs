//! What people type, for the help of each command, the manual pages and the reference: a test parses every line.

use clap::Command;

/// Commands whose own help has no example, and theirs.
const EXAMPLES: &[(&[&str], &str)] = &[
    (
        &["login"],
        "\
  bz login --server https://bz.example.com --bundle bundle.toml
  bz login                                 later: the profile knows the rest
  bz login --workload github               as a job of GitHub Actions",
    ),
    (&["logout"], "  bz logout"),
    (
        &["list-targets"],
        "\
  bz list-targets
  bz lt --environment prod --status online
  bz lt --label role=web --detail",
    ),
    (&["list-connections"], "  bz lc --all"),
    (
        &["exec"],
        "\
  bz exec deploy@web -- uptime
  bz exec deploy@web.prod -- 'tail -n 5 /var/log/syslog | grep error'",
    ),
    (&["attach"], "  bz attach 019a0000-0000-7000-8000-000000000001"),
    (
        &["cp"],
        "\
  bz cp notes.txt deploy@web:/srv/
  bz cp -r deploy@web:/var/log/app ./logs",
    ),
    (
        &["close"],
        "\
  bz close 019a0000-0000-7000-8000-000000000001
  bz close --all",
    ),
    (&["why"], "  bz why deploy@web"),
    (&["transcript", "list"], "  bz transcript list 019a0000-0000-7000-8000-000000000001"),
    (&["transcript", "get"], "  bz transcript get 019a0000-0000-7000-8000-000000000001 --out evidence"),
    (&["recording", "list"], "  bz recording list"),
    (&["recording", "get"], "  bz recording get 019a0000-0000-7000-8000-000000000001 --out session.cast"),
    (&["recording", "search"], "  bz recording search 019a0000-0000-7000-8000-000000000001 'permission denied'"),
    (
        &["logs", "connections"],
        "\
  bz logs connections --user alice@example.com --since 2026-01-02T00:00:00Z
  bz logs connections --target web --watch",
    ),
    (&["logs", "commands"], "  bz logs commands --target web --search sudo"),
    (&["logs", "users"], "  bz logs users --denied --json"),
    (
        &["verify"],
        "\
  bz verify evidence --bundle bundle.toml
  bz verify session.bzt --json",
    ),
    (
        &["target", "trust"],
        "  bz target trust web 5d0e8f9a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6",
    ),
    (&["target", "edit"], "  bz target edit web --environment prod --label role=web"),
    (&["environment", "create"], "  bz environment create prod --description 'What customers use' --offline-hours 48"),
    (&["agent", "list"], "  bz agent list"),
    (&["policy", "list"], "  bz policy list --json"),
    (
        &["policy", "create", "target-access"],
        "\
  bz policy create target-access --name admins --user alice@example.com --target web --target-user root --verb Shell
  bz policy create target-access --name devs --group developers --environment test --target-user '{username}' --verb Shell",
    ),
    (
        &["policy", "create", "session-recording"],
        "  bz policy create session-recording --name recorded --group developers --record-input",
    ),
    (&["policy", "edit"], "  bz policy edit admins --add-user bob@example.com --remove-target-user root"),
    (&["policy", "evaluate"], "  bz policy evaluate --user bob@example.com --target root@web"),
    (
        &["user"],
        "\
  bz user list
  bz user role bob@example.com auditor
  bz user delete bob@example.com",
    ),
    (
        &["group"],
        "\
  bz group list
  bz group of bob@example.com
  bz group sync",
    ),
    (
        &["mfa"],
        "\
  bz mfa setup
  bz mfa verify 123456",
    ),
    (&["service-account", "create"], "  bz service-account create provider.json"),
    (&["service-account", "login"], "  bz service-account login --provider-creds provider.json"),
    (
        &["api-key", "create"],
        "\
  bz api-key create terraform
  bz api-key create --registration first-key > registration.key",
    ),
    (
        &["registration-key"],
        "\
  bz registration-key settings
  bz registration-key own",
    ),
    (&["doctor"], "  bz doctor"),
    (
        &["completion"],
        "\
  bz completion bash > ~/.local/share/bash-completion/completions/bz
  bz completion zsh > ~/.zfunc/_bz         with: fpath+=~/.zfunc
  bz completion fish > ~/.config/fish/completions/bz.fish",
    ),
    (&["generate", "ssh-config"], "  bz generate ssh-config --include"),
    (&["generate", "bash"], "  bz generate bash --environment prod --output register.sh"),
    (&["generate", "man"], "  bz generate man ~/.local/share/man/man1"),
    (&["ssh-proxy"], "  ssh -o ProxyCommand='bz ssh-proxy root@web' root@web"),
];

/// The command with the examples in the help of its subcommands.
pub(super) fn add(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, lines)| at(command, path, lines))
}

fn at(command: Command, path: &[&str], lines: &str) -> Command {
    match path {
        [] => {
            let before = command.get_after_help().map(|text| format!("\n\n{}", text.to_string().trim_end()));
            let heading = if lines.contains('\n') { "Examples" } else { "Example" };
            command.after_help(format!("{heading}:\n{lines}{}", before.unwrap_or_default()))
        }
        [first, rest @ ..] => command.mut_subcommand(first, |command| at(command, rest, lines)),
    }
}
