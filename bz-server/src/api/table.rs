//! The table of operations: what each is called, takes and answers. The API's document is made from it.

use bz_core::api::access::{AttachShell, Connection, ConnectionMade, NewConnection, ShellConnection, Why, WhyQuestion};
use bz_core::api::api_key::{
    ApiKey, ApiKeyMade, ChangeApiKey, EnforceGlobalKey, NewApiKey, RegistrationKeySettings, RotateApiKey,
};
use bz_core::api::autodiscovery::{Artifact, AutodiscoveryScript};
use bz_core::api::groups::{GroupsSource, HookVerified, IdpGroup, OktaDelivery};
use bz_core::api::login::{
    CertValidation, ChangeUser, IdentityProvider, Organization, RegisterUser, Registered, SubjectDetails,
    TrustBundleText, User,
};
use bz_core::api::mfa::{
    BeginPage, ConfirmPage, ControlsContent, ControlsPolicy, MfaPage, MfaPassed, MfaSecret, MfaStatus, PageSecret,
    PassMfa, RecoveryCodes, ResetMfa, WhoseMfa,
};
use bz_core::api::policy::question::{EvaluateQuestion, Evaluation, SimulateQuestion, Simulation};
use bz_core::api::policy::version::{PolicyDiff, PolicyVersion};
use bz_core::api::policy::{
    KubernetesContent, KubernetesPolicy, ProxyContent, ProxyPolicy, RecordingContent, RecordingPolicy,
    TargetConnectContent, TargetConnectPolicy,
};
use bz_core::api::reach::{Agent, TargetsByAccess};
use bz_core::api::record::{
    AgentStatusEvent, CommandEvent, ConnectionEvent, FileEvent, KubeEventFields, LogHead, QueryEvent, RecordingMatch,
    SessionRecording, TranscriptFile, UserEvent, WebEvent,
};
use bz_core::api::register::{AgentRegistered, RegisterAgent};
use bz_core::api::service_account::{
    ChangeServiceAccount, LoginServiceAccount, LoginWorkload, NewServiceAccount, NewWorkload, RotatedSecret,
    ServiceAccount, ServiceAccountMade,
};
use bz_core::api::target::{ChangeEnvironment, ChangeTarget, Environment, EnvironmentMade, NewEnvironment, Target};
use bz_core::api::virtual_target::{
    DatabaseTarget, KubeTarget, KubeTargetMade, NewVirtualTarget, SplitCertDatabases, SupportedDatabase,
    VirtualTargetMade, WebTarget,
};

use crate::api::openapi::{
    self, Answers, Asciicast, Events, Lines, Nothing, OpenApi, Program, ScriptText, Tagged, Transcript, Whole, body_of,
};
use crate::api::page::List;
use crate::api::policy::change::Change;
use crate::api::query::{AGENTS, CONNECTIONS, FOUND, HOSTS, NAME, POLICIES, REACH, STOP, TOKENS, VERSIONS, VIRTUAL};
use crate::api::{
    About, MAX_BODY, MAX_EVENTS, Method, Operation, ProofOf, agent, api_key, artifact, autodiscovery, connection,
    elsewhere, environment, event, groups, mfa, organization, policy, reach, recording, registration_key,
    service_account, subject, target, typed, user, virtual_target, why,
};

/// `NAME METHOD PATH HANDLER [QUERY]: BODY => ANSWER, SUMMARY, FIELD: VALUE;`: query, body and fields may be left out. A
/// handler is given the body that stands here, and can give no other answer.
macro_rules! operations {
    ($(
        $name:literal $method:ident $path:literal $run:path $([$($query:expr),*])? $(: $body:ty)? => $answer:ty,
        $about:literal $(, $field:ident: $value:expr)*;
    )*) => {
        /// All operations.
        pub const OPERATIONS: &[Operation] = &[$({
            // Not in the expression below, where `..` takes the place of what is not named.
            #[allow(unused_mut, reason = "few rows have fields of their own")]
            let mut row = Operation {
                name: $name,
                method: Method::$method,
                path: $path,
                summary: $about,
                query: operations!(@query $($($query),*)?),
                proof: ProofOf::Known,
                about: About::Nothing,
                guarded: false,
                most: MAX_BODY,
                body: operations!(@body $($body)?),
                answer: <$answer as Answers>::described,
                run: operations!(@run $run, $answer $(, $body)?),
            };
            $(row.$field = $value;)*
            row
        }),*];
    };
    (@query) => { &[] };
    (@query $query:expr) => { $query };
    (@body) => { None };
    (@body $body:ty) => { Some(body_of::<$body>) };
    (@run $run:path, $answer:ty) => { |call| Box::pin(async move { typed::<$answer>($run(call).await) }) };
    (@run $run:path, $answer:ty, $body:ty) => {
        |call| Box::pin(async move {
            let body: $body = call.json()?;
            typed::<$answer>($run(call, body).await)
        })
    };
}

operations! {
    "apiservice:describe" Get "/openapi.json" openapi::get => OpenApi,
        "Answers with this document.";
    "trustservice:bundle" Get "/trust-bundle" organization::bundle => TrustBundleText,
        "Answers with the trust bundle, for the first use of a server, and with what clients need in order to log in.";
    "organizationservice:get" Get "/organization" organization::get => Organization,
        "Answers with the organization.";
    "organizationservice:identity-provider" Get "/organization/identity-provider" organization::identity_provider
        => IdentityProvider,
        "Answers with the identity provider; with the first where there are several.";
    "organizationservice:identity-provider" Get "/organization/bzcert-validation-info" organization::cert_validation
        => CertValidation,
        "Answers with what says at the identity provider which organization a login belongs to.";
    "userservice:register" Post "/users/register" user::register: RegisterUser => Registered,
        "Registers a login by its certificate, and its person at the first time; again after each refresh.",
        proof: ProofOf::Body;
    "userservice:logout" Post "/users/logout" user::logout => Nothing,
        "Ends the caller's login.";
    "userservice:me" Get "/users/me" user::me => User,
        "Answers with the caller.";
    "userservice:list" Get "/users" user::list => List<User>,
        "Lists the people who have logged in.";
    "userservice:get" Get "/users/{id}" user::get => User,
        "Answers with one person, named by id or address.";
    "userservice:edit" Patch "/users/{id}" user::edit: ChangeUser => User,
        "Changes somebody's role; nobody changes their own.";
    "userservice:delete" Delete "/users/{id}" user::delete => Nothing,
        "Takes a person out of all policies, ends their logins and closes their connections. Logs keep their id.";
    "userservice:close-connections" Patch "/users/{id}/close-connections" user::close_connections => Nothing,
        "Closes all connections of a person.";
    "subjectservice:list" Get "/subjects" subject::list => List<SubjectDetails>,
        "Lists whoever a policy may name: people.";
    "subjectservice:me" Get "/subjects/me" subject::me => SubjectDetails,
        "Answers with the caller, person or key.";
    "subjectservice:get" Get "/subjects/{id}" subject::get => SubjectDetails,
        "Answers with one subject, named by id or address.";
    "subjectservice:edit" Patch "/subjects/{id}" subject::edit: ChangeUser => SubjectDetails,
        "Changes a subject's role; nobody changes their own.";
    "subjectservice:close-connections" Patch "/subjects/{id}/close-connections" subject::close_connections => Nothing,
        "Closes all connections of a subject.";
    "agentservice:list" Get "/agents" agent::list [AGENTS] => List<Agent>,
        "Lists the agents of hosts and whether they have a link.";
    "agentservice:register" Post "/agent/register" agent::register: RegisterAgent => AgentRegistered,
        "Registers an agent as a target, by a registration key and proofs of the agent's own keys.";
    "apikeyservice:list" Get "/api-keys" api_key::list => List<ApiKey>,
        "Lists API keys and registration keys, without their secrets.";
    "apikeyservice:add" Post "/api-keys" api_key::add: NewApiKey => ApiKeyMade,
        "Makes a key; its secret is in this answer only.";
    "apikeyservice:get" Get "/api-keys/{id}" api_key::get => ApiKey,
        "Answers with one key, without its secret.";
    "apikeyservice:edit" Patch "/api-keys/{id}" api_key::edit: ChangeApiKey => ApiKey,
        "Changes a key's name, what it may do, from where and until when; what is absent stays.";
    "apikeyservice:delete" Delete "/api-keys/{id}" api_key::delete => Nothing,
        "Deletes a key, which opens nothing from then on.";
    "environmentservice:list" Get "/environments" environment::list => List<Environment>,
        "Lists environments.";
    "environmentservice:add" Post "/environments" environment::add: NewEnvironment => EnvironmentMade,
        "Makes an environment.";
    "environmentservice:get" Get "/environments/{id}" environment::get => Environment,
        "Answers with one environment.";
    "environmentservice:edit" Patch "/environments/{id}" environment::edit: ChangeEnvironment => Environment,
        "Changes an environment's name, description or hours; what is absent stays.";
    "environmentservice:delete" Delete "/environments/{id}" environment::delete => Nothing,
        "Deletes an environment that nothing is in, nothing is behind and no policy names; not the default one.";
    "targetservice:list" Get "/targets" reach::list [REACH] => TargetsByAccess,
        "Lists what the caller may reach, by the way of reaching it, with the connections there.";
    "targetservice:list" Get "/targets/bzero" target::list [HOSTS] => List<Target>,
        "Lists the hosts that the caller may use, with what policy gives there; all for administrators.";
    "targetservice:get" Get "/targets/bzero/{id}" target::get => Target,
        "Answers with one host.";
    "targetservice:edit" Patch "/targets/bzero/{id}" target::edit: ChangeTarget => Target,
        "Changes a host's name or environment; what policy does not allow there ends.";
    "targetservice:delete" Delete "/targets/bzero/{id}" target::delete => Nothing,
        "Deletes a host and closes its connections.";
    "targetservice:list" Get "/targets/database/supported-database-configs" virtual_target::supported
        => Whole<SupportedDatabase>,
        "Lists the databases that have a name here.";
    "targetservice:list" Get "/targets/database" virtual_target::list::<virtual_target::Databases> [VIRTUAL]
        => List<DatabaseTarget>,
        "Lists the databases that the caller may use; all for administrators.";
    "targetservice:add" Post "/targets/database" virtual_target::add::<virtual_target::Databases>: NewVirtualTarget
        => VirtualTargetMade,
        "Makes a database target behind a host or environment.";
    "targetservice:get" Get "/targets/database/{id}" virtual_target::get::<virtual_target::Databases>
        => DatabaseTarget,
        "Answers with one database.";
    "targetservice:edit" Patch "/targets/database/{id}" virtual_target::edit::<virtual_target::Databases>
        : NewVirtualTarget => DatabaseTarget,
        "Changes a database target; what is absent stays.";
    "targetservice:delete" Delete "/targets/database/{id}" virtual_target::delete::<virtual_target::Databases>
        => Nothing,
        "Deletes a database target and closes its connections.";
    "targetservice:list" Get "/targets/web" virtual_target::list::<virtual_target::WebServers> [VIRTUAL]
        => List<WebTarget>,
        "Lists the web servers that the caller may use; all for administrators.";
    "targetservice:add" Post "/targets/web" virtual_target::add::<virtual_target::WebServers>: NewVirtualTarget
        => VirtualTargetMade,
        "Makes a web target behind a host or environment.";
    "targetservice:get" Get "/targets/web/{id}" virtual_target::get::<virtual_target::WebServers> => WebTarget,
        "Answers with one web server.";
    "targetservice:edit" Patch "/targets/web/{id}" virtual_target::edit::<virtual_target::WebServers>
        : NewVirtualTarget => WebTarget,
        "Changes a web target; what is absent stays.";
    "targetservice:delete" Delete "/targets/web/{id}" virtual_target::delete::<virtual_target::WebServers> => Nothing,
        "Deletes a web target and closes its connections.";
    "targetservice:list" Get "/targets/kube" virtual_target::list::<virtual_target::Clusters> [VIRTUAL]
        => List<KubeTarget>,
        "Lists the clusters that the caller may use; all for administrators.";
    "targetservice:add" Post "/targets/kube" virtual_target::add_cluster: NewVirtualTarget => KubeTargetMade,
        "Makes a cluster target behind the host or environment whose agent is in it; or, where it names neither, the \
         objects that make an agent there.";
    "targetservice:get" Get "/targets/kube/{id}" virtual_target::get::<virtual_target::Clusters> => KubeTarget,
        "Answers with one cluster.";
    "targetservice:edit" Patch "/targets/kube/{id}" virtual_target::edit::<virtual_target::Clusters>
        : NewVirtualTarget => KubeTarget,
        "Changes a cluster target; what is absent stays.";
    "targetservice:delete" Delete "/targets/kube/{id}" virtual_target::delete::<virtual_target::Clusters> => Nothing,
        "Deletes a cluster target and closes its connections.";
    "policymanagementservice:list" Get "/policies/target-connect" policy::list::<policy::TargetConnect> [POLICIES]
        => List<TargetConnectPolicy>,
        "Lists target access policies.";
    "policymanagementservice:add" Post "/policies/target-connect" policy::add::<policy::TargetConnect>
        : TargetConnectContent => Tagged<TargetConnectPolicy>,
        "Makes a target access policy.";
    "policymanagementservice:get" Get "/policies/target-connect/{id}" policy::get::<policy::TargetConnect>
        => Tagged<TargetConnectPolicy>,
        "Answers with one target access policy.";
    "policymanagementservice:edit" Patch "/policies/target-connect/{id}" policy::edit::<policy::TargetConnect>
        : Change<TargetConnectContent> => Tagged<TargetConnectPolicy>,
        "Changes a target access policy; what it does not allow any more ends.", guarded: true;
    "policymanagementservice:delete" Delete "/policies/target-connect/{id}" policy::delete::<policy::TargetConnect>
        => Nothing,
        "Deletes a target access policy; what it alone allowed ends.", guarded: true;
    "policymanagementservice:list" Get "/policies/session-recording" policy::list::<policy::SessionRecording> [POLICIES]
        => List<RecordingPolicy>,
        "Lists session recording policies.";
    "policymanagementservice:add" Post "/policies/session-recording" policy::add::<policy::SessionRecording>
        : RecordingContent => Tagged<RecordingPolicy>,
        "Makes a session recording policy.";
    "policymanagementservice:get" Get "/policies/session-recording/{id}" policy::get::<policy::SessionRecording>
        => Tagged<RecordingPolicy>,
        "Answers with one session recording policy.";
    "policymanagementservice:edit" Patch "/policies/session-recording/{id}" policy::edit::<policy::SessionRecording>
        : Change<RecordingContent> => Tagged<RecordingPolicy>,
        "Changes a session recording policy; what it does not allow any more ends.", guarded: true;
    "policymanagementservice:delete" Delete "/policies/session-recording/{id}"
        policy::delete::<policy::SessionRecording> => Nothing,
        "Deletes a session recording policy.", guarded: true;
    "policymanagementservice:list" Get "/policies/proxy" policy::list::<policy::Proxy> [POLICIES] => List<ProxyPolicy>,
        "Lists proxy policies.";
    "policymanagementservice:add" Post "/policies/proxy" policy::add::<policy::Proxy>: ProxyContent => Tagged<ProxyPolicy>,
        "Makes a proxy policy.";
    "policymanagementservice:get" Get "/policies/proxy/{id}" policy::get::<policy::Proxy> => Tagged<ProxyPolicy>,
        "Answers with one proxy policy.";
    "policymanagementservice:edit" Patch "/policies/proxy/{id}" policy::edit::<policy::Proxy>
        : Change<ProxyContent> => Tagged<ProxyPolicy>,
        "Changes a proxy policy; what it does not allow any more ends.", guarded: true;
    "policymanagementservice:delete" Delete "/policies/proxy/{id}" policy::delete::<policy::Proxy> => Nothing,
        "Deletes a proxy policy; what it alone allowed ends.", guarded: true;
    "policymanagementservice:list" Get "/policies/kubernetes" policy::list::<policy::Kubernetes> [POLICIES]
        => List<KubernetesPolicy>,
        "Lists Kubernetes policies.";
    "policymanagementservice:add" Post "/policies/kubernetes" policy::add::<policy::Kubernetes>: KubernetesContent
        => Tagged<KubernetesPolicy>,
        "Makes a Kubernetes policy.";
    "policymanagementservice:get" Get "/policies/kubernetes/{id}" policy::get::<policy::Kubernetes>
        => Tagged<KubernetesPolicy>,
        "Answers with one Kubernetes policy.";
    "policymanagementservice:edit" Patch "/policies/kubernetes/{id}" policy::edit::<policy::Kubernetes>
        : Change<KubernetesContent> => Tagged<KubernetesPolicy>,
        "Changes a Kubernetes policy; what it does not allow any more ends.", guarded: true;
    "policymanagementservice:delete" Delete "/policies/kubernetes/{id}" policy::delete::<policy::Kubernetes>
        => Nothing,
        "Deletes a Kubernetes policy; what it alone allowed ends.", guarded: true;
    "policyqueryservice:why" Post "/policy-query/why" why::why: WhyQuestion => Why,
        "Says whether somebody may do something somewhere, by which policies, and what is missing where not.";
    "connectionservice:connect" Post "/connections/universal" connection::open: NewConnection => ConnectionMade,
        "Opens a connection to a target and answers with its grant.";
    "connectionservice:list" Get "/connections" connection::list [CONNECTIONS] => List<Connection>,
        "Lists the caller's connections; others' for administrators.";
    "connectionservice:list" Get "/connections/db" connection::list_of::<connection::Db> [CONNECTIONS]
        => List<Connection>,
        "Lists the caller's connections to databases; others' for administrators.";
    "connectionservice:list" Get "/connections/kube" connection::list_of::<connection::Kube> [CONNECTIONS]
        => List<Connection>,
        "Lists the caller's connections to clusters; others' for administrators.";
    "connectionservice:list" Get "/connections/web" connection::list_of::<connection::Web> [CONNECTIONS]
        => List<Connection>,
        "Lists the caller's connections to web servers; others' for administrators.";
    "connectionservice:list" Get "/connections/shell" connection::list_of::<connection::Shell> [CONNECTIONS]
        => List<Connection>,
        "Lists the caller's connections that are shells; others' for administrators.";
    "connectionservice:list" Get "/connections/ssh" connection::list_of::<connection::Ssh> [CONNECTIONS]
        => List<Connection>,
        "Lists the caller's connections that are ssh; others' for administrators.";
    "connectionservice:list" Get "/connections/rdp" connection::list_of::<connection::Never> [CONNECTIONS]
        => List<Connection>,
        "Lists nothing: there are no such connections here. Kept for the original's clients.";
    "connectionservice:list" Get "/connections/sqlserver" connection::list_of::<connection::Never> [CONNECTIONS]
        => List<Connection>,
        "Lists nothing: there are no such connections here. Kept for the original's clients.";
    "connectionservice:get" Get "/connections/shell/{id}" connection::shell => ShellConnection,
        "Answers with one shell's connection and whether it is recorded.", about: About::Connection;
    "connectionservice:close" Patch "/connections/{id}/close" connection::close => Nothing,
        "Closes a connection of any kind.", about: About::Connection;
    "connectionservice:attach" Post "/connections/{id}/shell/attach" connection::attach: AttachShell
        => ConnectionMade,
        "Asks for a grant to attach to the shell behind a connection.", about: About::Connection;
    "recordservice:list" Get "/session-recordings" recording::list => List<SessionRecording>,
        "Lists recordings.";
    "recordservice:get" Get "/session-recordings/{id}" recording::get => Asciicast,
        "Answers with the recording of a connection, also while it runs.";
    "recordservice:search" Get "/session-recordings/{id}/search" recording::find [&[FOUND]] => Whole<RecordingMatch>,
        "Lists the lines shown in a recording that hold a text, with their times, also while it runs.";
    "recordservice:delete" Delete "/session-recordings/{id}" recording::delete [&[STOP]] => Nothing,
        "Deletes what was recorded of a connection so far. Recording goes on as policy says, unless it is stopped.";
    "recordservice:transcripts" Get "/connections/{id}/transcripts" recording::transcripts => List<TranscriptFile>,
        "Lists the transcripts of a connection.";
    "recordservice:transcript" Get "/connections/{id}/transcripts/{n}" recording::transcript [&[TOKENS]] => Transcript,
        "Answers with a transcript, without the tokens in it.";
    "eventservice:subject" Get "/events/subject" event::subject [event::filter::CALLS] => List<UserEvent>,
        "Lists calls of this API, newest first.";
    "eventservice:connection" Get "/events/connection" event::connection [event::filter::CONNECTIONS] => List<ConnectionEvent>,
        "Lists what happened to connections, newest first.";
    "eventservice:command" Get "/events/command" event::command [event::filter::SEARCHED] => List<CommandEvent>,
        "Lists commands, newest first.";
    "eventservice:file" Get "/events/file" event::file [event::filter::OTHERS] => List<FileEvent>,
        "Lists files that were copied, or were to be, newest first.";
    "eventservice:query" Get "/events/query" event::query [event::filter::SEARCHED] => List<QueryEvent>,
        "Lists statements that databases were asked to run, newest first.";
    "eventservice:web" Get "/events/web" event::web [event::filter::OTHERS] => List<WebEvent>,
        "Lists requests to web servers behind targets, newest first.";
    "eventservice:kube" Get "/events/kube" event::kube [event::filter::OTHERS] => List<KubeEventFields>,
        "Lists requests to clusters, newest first.";
    "policymanagementservice:list" Get "/policies/organization-controls" policy::list::<policy::OrganizationControls>
        [POLICIES] => List<ControlsPolicy>,
        "Lists organization controls policies, of which there is at most one.";
    "organizationcontrolsservice:add" Post "/policies/organization-controls"
        policy::add::<policy::OrganizationControls>: ControlsContent => Tagged<ControlsPolicy>,
        "Makes the organization controls policy.";
    "policymanagementservice:get" Get "/policies/organization-controls/{id}"
        policy::get::<policy::OrganizationControls> => Tagged<ControlsPolicy>,
        "Answers with the organization controls policy.";
    "organizationcontrolsservice:edit" Patch "/policies/organization-controls/{id}"
        policy::edit::<policy::OrganizationControls>: Change<ControlsContent> => Tagged<ControlsPolicy>,
        "Changes the organization controls policy; what it switched on stays on.";
    "policymanagementservice:delete" Delete "/policies/organization-controls/{id}"
        policy::delete::<policy::OrganizationControls> => Nothing,
        "Deletes the organization controls policy, unless it demands a second factor.";
    "mfaservice:totp" Post "/mfa/totp" mfa::totp: PassMfa => MfaPassed,
        "Takes a code, which finishes a login or confirms a new secret.";
    "mfaservice:reset" Post "/mfa/reset" mfa::reset: ResetMfa => MfaSecret,
        "Makes a new secret for the caller, which counts once a code of it is given.";
    "mfaservice:recovery-codes" Post "/mfa/recovery-codes" mfa::recovery_codes => RecoveryCodes,
        "Makes new recovery codes for the caller; those from before are void.", about: About::Caller;
    "mfaservice:clear" Post "/mfa/clear" mfa::clear: WhoseMfa => Nothing,
        "Forgets somebody's second factor and ends their logins; nobody clears their own.";
    "mfaservice:setup" Post "/mfa/setup" mfa::setup: WhoseMfa => Nothing,
        "Demands a second factor of somebody.";
    "mfaservice:disable" Post "/mfa/disable" mfa::disable: WhoseMfa => Nothing,
        "Demands no second factor of somebody any more, which is discouraged; nobody disables their own.";
    "mfaservice:me" Get "/mfa/me" mfa::me => MfaStatus,
        "Says how the caller's second factor stands.";
    "mfaservice:get" Get "/mfa/{id}" mfa::get => MfaStatus,
        "Says how somebody's second factor stands, named by id or address.";
    "serviceaccountservice:login" Post "/service-accounts/login" service_account::login: LoginServiceAccount
        => Registered,
        "Logs a service account in, by a token that it signed itself and a code.", proof: ProofOf::Body;
    "serviceaccountservice:list" Get "/service-accounts" service_account::list => List<ServiceAccount>,
        "Lists service accounts.";
    "serviceaccountservice:add" Post "/service-accounts" service_account::add: NewServiceAccount
        => ServiceAccountMade,
        "Makes a service account; the secret of its codes is in this answer only.";
    "serviceaccountservice:me" Get "/service-accounts/me" service_account::me => ServiceAccount,
        "Answers with the service account that calls.", about: About::Caller;
    "serviceaccountservice:get" Get "/service-accounts/{id}" service_account::get => ServiceAccount,
        "Answers with one service account.";
    "serviceaccountservice:edit" Patch "/service-accounts/{id}" service_account::edit: ChangeServiceAccount
        => ServiceAccount,
        "Changes a service account's role, or whether it may log in; one that is disabled ends at once.";
    "serviceaccountservice:delete" Delete "/service-accounts/{id}" service_account::delete => Nothing,
        "Takes a service account out of all policies, ends its logins and closes its connections.";
    "serviceaccountservice:invalidate-cache" Patch "/service-accounts/invalidate-cache/{id}"
        service_account::invalidate_cache => Nothing,
        "Forgets a service account's key set, so that it is fetched anew.";
    "serviceaccountservice:rotate-mfa" Patch "/mfa/rotate/{id}" service_account::rotate => RotatedSecret,
        "Gives a service account a new secret for its codes, and ends its logins.";
    "eventservice:agent-status-change" Get "/events/agent-status-change" event::agent_status_change
        [event::filter::AGENTS] => List<AgentStatusEvent>,
        "Lists when the agent of a target came, left and started again, newest first.";
    "eventservice:stream" Get "/events/stream" event::stream::stream [event::filter::STREAM] => Events,
        "Sends events of logs as they come, as server-sent events; after those that Last-Event-ID names, when it is sent.";
    "eventservice:export" Get "/events/export" event::stream::export [event::filter::STREAM] => Lines,
        "Sends all events of logs, oldest first, each with its number and hash in the chain.";
    "eventservice:head" Get "/events/head" event::head => LogHead,
        "Answers with the end of the chain of all logs: written down elsewhere, it proves later that nothing was changed.";
    "serviceaccountservice:add-workload" Post "/service-accounts/workloads" service_account::add_workload: NewWorkload
        => ServiceAccount,
        "Makes a service account of a job of CI that the trust bundle pins; it has no secret.";
    "serviceaccountservice:login-workload" Post "/service-accounts/workloads/login" service_account::login_workload:
        LoginWorkload => Registered,
        "Logs a job of CI in, by a token of its issuer whose audience commits to the client key.", proof: ProofOf::Body;
    "mfaservice:page" Post "/mfa/page" mfa::page::ask: ResetMfa => MfaPage,
        "Gives a code by which a browser sets up the second factor of this login, once and within five minutes.";
    "mfaservice:page-begin" Post "/mfa/page/begin" mfa::page::begin: BeginPage => PageSecret,
        "Takes the code of a page, and proposes a new secret to the login that it is of.";
    "mfaservice:page-confirm" Post "/mfa/page/confirm" mfa::page::confirm: ConfirmPage => MfaPassed,
        "Confirms the secret that a page was shown, by its first code.";
    "apikeyservice:rotate" Post "/api-keys/{id}/rotate" api_key::rotate: RotateApiKey => ApiKeyMade,
        "Gives a key another secret, which is in this answer only; tokens that were made of it are void.";
    "registrationkeyservice:get" Get "/organization/registration-key/settings" registration_key::settings
        => RegistrationKeySettings,
        "Says which registration key scripts register by.";
    "registrationkeyservice:edit" Post "/organization/registration-key/enable-enforce-global-key"
        registration_key::enforce: EnforceGlobalKey => RegistrationKeySettings,
        "Has scripts register by the default registration key, and says which it is.";
    "registrationkeyservice:edit" Post "/organization/registration-key/disable-enforce-global-key"
        registration_key::release => RegistrationKeySettings,
        "Has scripts register by the key of the administrator who asks; each administrator has one from then on.";
    "registrationkeyservice:own" Post "/organization/registration-key/own" registration_key::own => ApiKeyMade,
        "Gives the caller's own registration key another secret, which is in this answer only.", about: About::Caller;
    "autodiscoveryservice:script" Get "/autodiscovery-scripts/bzero/bash" autodiscovery::bash [autodiscovery::QUERY]
        => AutodiscoveryScript,
        "Makes a script for hosts with bash, and a token for it; it has no pins, which `bz generate` puts in.";
    "autodiscoveryservice:script" Get "/autodiscovery-scripts/windows/powershell" autodiscovery::powershell
        [autodiscovery::QUERY] => AutodiscoveryScript,
        "The same for Windows.";
    "autodiscoveryservice:script" Get "/autodiscovery-scripts/bzero/ansible" autodiscovery::ansible
        [autodiscovery::QUERY] => AutodiscoveryScript,
        "The same as a playbook.";
    "autodiscoveryservice:script" Get "/autodiscovery-scripts/bzero/kube" autodiscovery::kube [autodiscovery::QUERY]
        => AutodiscoveryScript,
        "The same as objects of Kubernetes, for a cluster's agent.";
    "autodiscoveryservice:script" Get "/autodiscovery-scripts/container" autodiscovery::container
        [autodiscovery::QUERY] => ScriptText,
        "The same as a file of Docker Compose, as plain text.";
    "artifactservice:list" Get "/artifacts" artifact::list => Whole<Artifact>,
        "Lists the agents' programs that this server gives, with their digests.";
    "artifactservice:get" Get "/artifacts/{name}" artifact::get => Program,
        "Answers with an agent's program.";
    "groupservice:list" Get "/organization/groups" groups::list => List<IdpGroup>,
        "Lists the groups of identity providers that policies name.";
    "groupservice:fetch" Post "/organization/groups/fetch" groups::fetch => Whole<IdpGroup>,
        "Asks directories now which groups there are, for who authors a policy; nothing of it is kept.",
        about: About::Caller;
    "groupservice:fetch-of" Post "/organization/groups-memberships/fetch/{id}" groups::fetch_of => Whole<IdpGroup>,
        "Asks the directory now in which groups a person is; nothing of it is kept.";
    "groupservice:sources" Get "/organization/groups/credentials" groups::sources => Whole<GroupsSource>,
        "Says for each identity provider where its groups come from, when that last went well, and why it did not.";
    "groupservice:sync" Post "/organization/groups/sync" groups::sync => Whole<GroupsSource>,
        "Asks directories now about everybody who is logged in, and says how it went.";
    "groupservice:remove" Delete "/organization/groups/credentials" groups::remove => Nothing,
        "Removes the integration with directories: none is asked any more, and what they said counts no more.";
    "groupservice:restore" Post "/organization/groups/credentials" groups::restore => Whole<GroupsSource>,
        "Takes the directories of the server's settings into use again.";
    "groupservice:verify-hook" Get "/organization/groups/okta-events" groups::verify_hook => HookVerified,
        "Answers Okta's one-time verification of an event hook: the challenge in its header.", about: About::Caller;
    "groupservice:hook" Post "/organization/groups/okta-events" groups::hook: OktaDelivery => Nothing,
        "Takes events of Okta about people and groups, which count at once.", proof: ProofOf::Hook, most: MAX_EVENTS;
    "policyqueryservice:evaluate" Post "/policies:evaluate" policy::evaluate::evaluate: EvaluateQuestion => Evaluation,
        "Says what is decided for somebody somewhere at some time, by which policies, and how the others count.";
    "policyqueryservice:simulate" Post "/policies:simulate" policy::evaluate::simulate: SimulateQuestion => Simulation,
        "Says what would change if a policy were made, changed or deleted; nothing is.";
    "policymanagementservice:history" Get "/policy-versions" policy::history::called [&[NAME]] => List<PolicyVersion>,
        "Lists the versions of all policies that ever had a name, newest first; also of those that are gone.";
    "policymanagementservice:history" Get "/policy-versions/{id}" policy::history::of => List<PolicyVersion>,
        "Lists the versions of a policy, newest first; also of one that is gone.";
    "policymanagementservice:history" Get "/policy-versions/{id}/diff" policy::history::differences [VERSIONS]
        => PolicyDiff,
        "Says how two versions of a policy differ, by fields and by elements of lists.";
    "policymanagementservice:history" Get "/policy-versions/{id}/{n}" policy::history::one => PolicyVersion,
        "Answers with one version of a policy, and what it said.";
    "connectionservice:connect" Post "/connections/db" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "connectionservice:connect" Post "/connections/kube" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "connectionservice:connect" Post "/connections/web" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "connectionservice:connect" Post "/connections/shell" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "connectionservice:connect" Post "/connections/ssh" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "connectionservice:connect" Post "/connections/universal/ssh" elsewhere::connect => Nothing,
        "Always refused: says how connections are made. Kept for the original's clients.";
    "targetservice:edit" Post "/targets/bzero/restart" elsewhere::restart => Nothing,
        "Always refused: says how it is done. Kept for the original's clients.";
    "targetservice:edit" Post "/targets/bzero/retrieve-logs" elsewhere::logs => Nothing,
        "Always refused: says how it is done. Kept for the original's clients.";
    "targetservice:edit" Post "/targets/bzero/update-config" elsewhere::configure => Nothing,
        "Always refused: says how it is done. Kept for the original's clients.";
    "targetservice:list" Get "/targets/database/supported-databases" virtual_target::split_cert => SplitCertDatabases,
        "Lists nothing: no database has split certificates here. Kept for the original's clients.";
}
