//! What `bz completion` prints, in the shells themselves.

use bz_examples::needs;

use super::built;
use super::desk::Desk;

/// Each shell takes its script, and offers what begins so.
#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_commands() {
    let mut desk = Desk::new();
    desk.begin_with(&format!("export PATH={}:$PATH", built().display()));
    let bash = "source <(bz completion bash); COMP_WORDS=(bz policy cre); COMP_CWORD=2; _bz bz cre policy; \
                printf '%s\\n' \"${COMPREPLY[@]}\"";
    // The completion system of zsh needs a person at a terminal; that it takes the script is seen without.
    let zsh = "zsh -fc 'autoload -U compinit; compinit -D; source <(bz completion zsh); \
               whence -w _bz'";
    let fish = "fish --no-config -c 'bz completion fish | source; complete -C \"bz policy cre\"'";
    for (shell, line, shows) in [("bash", bash, "create"), ("zsh", zsh, "_bz: function"), ("fish", fish, "create")] {
        if needs::program(shell) {
            let said = desk.run(line).await;
            assert!(said.lines().any(|line| line.starts_with(shows)), "{shell} does not offer it: {said}");
        }
    }
}
