//! The commands, one file each. A new one is a file, a variant and a line in [`run`].

mod agent;
mod api_key;
mod close;
mod completion;
mod connect;
#[cfg(unix)]
mod cp;
mod database;
mod kube;
mod web;
mod doctor;
mod environment;
mod group;
mod forward;
#[cfg(unix)]
mod generate;
mod list_connections;
mod list_targets;
mod login;
mod logout;
mod logs;
mod mfa;
mod policy;
mod port;
mod recording;
mod registration_key;
mod save;
#[cfg(unix)]
mod service_account;
#[cfg(unix)]
mod ssh_proxy;
mod target;
mod transcript;
mod user;
mod verify;
mod why;
pub(crate) mod workload;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;

pub(crate) use mfa::NoCode;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in with your organization's identity provider
    Login(login::Login),
    /// End the login here and at the server
    Logout(logout::Logout),
    /// List the targets you may know of
    #[command(visible_alias = "lt")]
    ListTargets(list_targets::ListTargets),
    /// List your connections
    #[command(visible_alias = "lc")]
    ListConnections(list_connections::ListConnections),
    /// Open a shell on a target, or a port to what is behind one
    Connect(connect::Connect),
    /// Run one command on a target
    Exec(connect::Exec),
    /// Lead ports of this machine to whatever a target reaches
    Forward(forward::Forward),
    /// Come back to a shell that runs on
    Attach(connect::Attach),
    /// Copy files to a target, or from it
    #[cfg(unix)]
    Cp(cp::Cp),
    /// Run kubectl at a cluster behind a target
    Kube(kube::RunKubectl),
    /// What kubectl asks for the token of a port
    #[command(hide = true)]
    KubeCredential(kube::KubeCredential),
    /// Close connections
    Close(close::Close),
    /// Why a target is allowed or not, and by which policies
    Why(why::Why),
    /// Transcripts of sessions, to take along (for administrators)
    #[command(subcommand)]
    Transcript(transcript::Transcript),
    /// Recordings of sessions (for administrators)
    #[command(subcommand)]
    Recording(recording::Recording),
    /// What happened: connections, commands, files, requests, calls (for administrators)
    #[command(subcommand, visible_alias = "log")]
    Logs(logs::Logs),
    /// Check sessions' transcripts offline, against anchors that the server has no say in
    Verify(verify::Verify),
    /// Targets: what this machine knows of them, and what is behind them
    #[command(subcommand)]
    Target(target::Target),
    /// Groups of targets (for administrators)
    #[command(subcommand)]
    Environment(environment::Environment),
    /// The agents of hosts (for administrators)
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Who may do what (for administrators)
    #[command(subcommand)]
    Policy(policy::Policy),
    /// The people of the organization (for administrators)
    #[command(subcommand)]
    User(user::User),
    /// Groups of identity providers (for administrators)
    #[command(subcommand)]
    Group(group::Group),
    /// Your second factor
    #[command(subcommand)]
    Mfa(mfa::Mfa),
    /// Programs that log in by themselves
    #[cfg(unix)]
    #[command(subcommand)]
    ServiceAccount(service_account::ServiceAccount),
    /// Keys for programs and for registering targets (for administrators)
    #[command(subcommand)]
    ApiKey(api_key::ApiKey),
    /// By which key hosts register (for administrators)
    #[command(subcommand)]
    RegistrationKey(registration_key::RegistrationKey),
    /// Find out what is wrong, and what to do about it
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completion(completion::Completion),
    /// Write files for other programs
    #[cfg(unix)]
    #[command(subcommand)]
    Generate(generate::Generate),
    /// Reach a target's own sshd: what ssh runs as its `ProxyCommand`
    #[cfg(unix)]
    SshProxy(ssh_proxy::SshProxy),
}

/// Runs a command.
pub(crate) async fn run(command: Command, context: &Context<'_>) -> anyhow::Result<Exit> {
    match command {
        Command::Login(login) => login.run(context).await,
        Command::Logout(logout) => logout.run(context).await,
        Command::ListTargets(list) => list.run(context).await,
        Command::ListConnections(list) => list.run(context).await,
        Command::Connect(connect) => connect.run(context).await,
        Command::Exec(exec) => exec.run(context).await,
        Command::Forward(forward) => forward.run(context).await,
        Command::Attach(attach) => attach.run(context).await,
        #[cfg(unix)]
        Command::Cp(cp) => cp.run(context).await,
        Command::Kube(kubectl) => kubectl.run(context).await,
        Command::KubeCredential(credential) => credential.run(context),
        Command::Close(close) => close.run(context).await,
        Command::Why(why) => why.run(context).await,
        Command::Transcript(transcript) => transcript.run(context).await,
        Command::Recording(recording) => recording.run(context).await,
        Command::Logs(logs) => logs.run(context).await,
        Command::Verify(verify) => verify.run(context),
        Command::Target(target) => target.run(context).await,
        Command::Environment(environment) => environment.run(context).await,
        Command::Agent(agent) => agent.run(context).await,
        Command::Policy(policy) => policy.run(context).await,
        Command::User(user) => user.run(context).await,
        Command::Group(group) => group.run(context).await,
        Command::Mfa(mfa) => mfa.run(context).await,
        #[cfg(unix)]
        Command::ServiceAccount(account) => account.run(context).await,
        Command::ApiKey(key) => key.run(context).await,
        Command::RegistrationKey(key) => key.run(context).await,
        Command::Doctor(doctor) => doctor.run(context).await,
        Command::Completion(completion) => completion.run(),
        #[cfg(unix)]
        Command::Generate(generate) => generate.run(context).await,
        #[cfg(unix)]
        Command::SshProxy(proxy) => proxy.run(context).await,
    }
}
