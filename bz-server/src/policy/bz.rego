# Every decision of the server. Permissive only: nothing here denies what another rule allows, and what no rule
# allows is denied.
package bz

import rego.v1

# --- Who may call what -----------------------------------------------------------------------------------------------
#
# anyone        no proof of anything; a registration key is not even that, for it registers agents and nothing else
# login         whoever is logged in, also without the second factor that is asked for
# person        whoever is logged in, with the second factor where it is asked for
# owner         the person whose connection the call is about
# admin         an administrator, logged in
# auditor       an auditor, logged in: reads logs, recordings and transcripts
# key           an access key: does what an administrator does, as far as its scopes go, but has no sessions
# whole-key     an access key that is narrowed in nothing
#
# A service account that is logged in is a person here, and does nothing of what no service account may.
#
# registration  a registration key: registers agents, nothing else
# hook          an identity provider that sends events: says what happened, nothing else

operations := {
	"apiservice:describe": {"anyone"},
	"trustservice:bundle": {"anyone"},
	"userservice:register": {"anyone"},
	"userservice:logout": {"login"},
	"userservice:me": {"person"},
	"subjectservice:me": {"person", "key"},
	"subjectservice:list": {"admin", "key"},
	"subjectservice:get": {"admin", "key"},
	"subjectservice:edit": {"admin", "key"},
	"subjectservice:close-connections": {"admin", "key"},
	"userservice:list": {"admin", "key"},
	"userservice:get": {"admin", "key"},
	"userservice:edit": {"admin", "key"},
	"userservice:delete": {"admin", "key"},
	"userservice:close-connections": {"admin", "key"},
	"organizationservice:get": {"person", "key"},
	"organizationservice:identity-provider": {"person", "key"},
	"agentservice:list": {"admin", "key"},
	"agentservice:register": {"registration"},
	"apikeyservice:list": {"admin", "key"},
	"apikeyservice:get": {"admin", "key"},
	"apikeyservice:add": {"admin", "key"},
	"apikeyservice:edit": {"admin", "key"},
	"apikeyservice:delete": {"admin", "key"},
	"environmentservice:list": {"person", "key"},
	"environmentservice:get": {"person", "key"},
	"environmentservice:add": {"admin", "key"},
	"environmentservice:edit": {"admin", "key"},
	"environmentservice:delete": {"admin", "key"},
	"targetservice:list": {"person", "key"},
	"targetservice:list-all": {"admin", "key"},
	"targetservice:get": {"person", "key"},
	"targetservice:delete": {"admin", "key"},
	"targetservice:add": {"admin", "key"},
	"targetservice:edit": {"admin", "key"},
	"policymanagementservice:list": {"admin", "key"},
	"policymanagementservice:get": {"admin", "key"},
	"policymanagementservice:add": {"admin", "key"},
	"policymanagementservice:edit": {"admin", "key"},
	"policymanagementservice:delete": {"admin", "key"},
	"policymanagementservice:history": {"admin", "key"},
	"policyqueryservice:why": {"person"},
	"policyqueryservice:why-others": {"admin", "key"},
	"policyqueryservice:evaluate": {"admin", "key"},
	"policyqueryservice:simulate": {"admin", "key"},
	"connectionservice:connect": {"person"},
	"connectionservice:list": {"person", "key"},
	"connectionservice:list-others": {"admin", "key"},
	"connectionservice:get": {"owner", "admin", "key"},
	"connectionservice:attach": {"owner"},
	"connectionservice:close": {"owner", "admin", "key"},
	"recordservice:list": {"admin", "auditor"},
	"recordservice:get": {"admin", "auditor"},
	"recordservice:search": {"admin", "auditor"},
	"recordservice:watch": {"admin", "auditor"},
	"recordservice:delete": {"admin"},
	"recordservice:transcripts": {"admin", "auditor"},
	"recordservice:transcript": {"admin", "auditor"},
	"recordservice:transcript-tokens": {"admin", "auditor"},
	"eventservice:subject": {"admin", "key", "auditor"},
	"eventservice:connection": {"admin", "key", "auditor"},
	"eventservice:command": {"admin", "key", "auditor"},
	"eventservice:file": {"admin", "key", "auditor"},
	"eventservice:query": {"admin", "key", "auditor"},
	"eventservice:web": {"admin", "key", "auditor"},
	"eventservice:kube": {"admin", "key", "auditor"},
	"mfaservice:totp": {"login"},
	"mfaservice:reset": {"login"},
	"mfaservice:me": {"login"},
	"mfaservice:recovery-codes": {"person"},
	"mfaservice:get": {"admin", "key"},
	"mfaservice:clear": {"admin", "key"},
	"mfaservice:setup": {"admin", "key"},
	"mfaservice:disable": {"admin", "key"},
	"organizationcontrolsservice:add": {"admin", "key"},
	"organizationcontrolsservice:edit": {"admin", "key"},
	"serviceaccountservice:login": {"anyone"},
	"serviceaccountservice:list": {"admin", "key"},
	"serviceaccountservice:add": {"admin", "key"},
	"serviceaccountservice:me": {"person"},
	"serviceaccountservice:get": {"admin", "key"},
	"serviceaccountservice:edit": {"admin", "key"},
	"serviceaccountservice:delete": {"admin", "key"},
	"serviceaccountservice:invalidate-cache": {"admin", "key"},
	"serviceaccountservice:rotate-mfa": {"admin", "key"},
	"eventservice:agent-status-change": {"admin", "key", "auditor"},
	"eventservice:head": {"admin", "key", "auditor"},
	"eventservice:stream": {"admin", "key", "auditor"},
	"eventservice:export": {"admin", "key", "auditor"},
	"serviceaccountservice:add-workload": {"admin", "key"},
	"serviceaccountservice:login-workload": {"anyone"},
	"mfaservice:page": {"login"},
	"mfaservice:page-begin": {"anyone"},
	"mfaservice:page-confirm": {"anyone"},
	"apikeyservice:rotate": {"admin", "key"},
	"apikeyservice:give": {"admin", "whole-key"},
	"registrationkeyservice:get": {"admin", "key"},
	"registrationkeyservice:edit": {"admin", "key"},
	"registrationkeyservice:own": {"admin"},
	"autodiscoveryservice:script": {"admin", "key"},
	"artifactservice:list": {"person", "key"},
	"artifactservice:get": {"anyone"},
	"groupservice:list": {"admin", "key"},
	"groupservice:fetch": {"admin", "key"},
	"groupservice:fetch-of": {"admin", "key"},
	"groupservice:sources": {"admin", "key"},
	"groupservice:sync": {"admin", "key"},
	"groupservice:remove": {"admin", "key"},
	"groupservice:restore": {"admin", "key"},
	"groupservice:verify-hook": {"anyone"},
	"groupservice:hook": {"hook"},
}

# What an access key's scopes let it do: the area of each service. A service without an area is for keys that may do
# everything.
areas := {
	"subjectservice": "users",
	"userservice": "users",
	"groupservice": "users",
	"serviceaccountservice": "users",
	"mfaservice": "users",
	"organizationcontrolsservice": "policies",
	"policymanagementservice": "policies",
	"policyqueryservice": "policies",
	"apikeyservice": "keys",
	"registrationkeyservice": "keys",
	"autodiscoveryservice": "keys",
	"agentservice": "targets",
	"artifactservice": "targets",
	"environmentservice": "targets",
	"targetservice": "targets",
	"connectionservice": "connections",
	"eventservice": "logs",
	"recordservice": "logs",
	"organizationservice": "organization",
}

# The words of operations that change nothing.
looking := {
	"list", "list-all", "list-others", "get", "me", "why", "why-others", "identity-provider", "head", "search", "watch",
}

service := split(input.operation, ":")[0]

looks if split(input.operation, ":")[1] in looking

looks if service == "eventservice"

in_scope if "all" in input.caller.scopes

in_scope if areas[service] in input.caller.scopes

in_scope if {
	looks
	"read" in input.caller.scopes
	areas[service]
}

in_scope if {
	looks
	concat(":", [areas[service], "read"]) in input.caller.scopes
}

# Whoever may do anything may know where.
in_scope if {
	looks
	areas[service] == "organization"
}

in_scope if input.operation == "subjectservice:me"


roles contains "anyone" if not input.caller.kind in {"registration", "hook"}

# What no service account does, whatever its role: who may log in and how, which roles they have, and keys, which are
# held to no such list.
never_by_service_accounts := {
	"serviceaccountservice:add",
	"serviceaccountservice:edit",
	"serviceaccountservice:delete",
	"serviceaccountservice:rotate-mfa",
	"userservice:register",
	"userservice:edit",
	"userservice:delete",
	"mfaservice:totp",
	"mfaservice:reset",
	"mfaservice:recovery-codes",
	"mfaservice:clear",
	"mfaservice:setup",
	"mfaservice:disable",
	"organizationcontrolsservice:add",
	"organizationcontrolsservice:edit",
	"apikeyservice:add",
	"apikeyservice:edit",
	"serviceaccountservice:add-workload",
	"mfaservice:page",
	"apikeyservice:rotate",
	"apikeyservice:give",
	"registrationkeyservice:edit",
	"registrationkeyservice:own",
	"groupservice:remove",
	"groupservice:restore",
}

in_person if input.caller.kind in {"person", "serviceaccount"}

forbidden if {
	input.caller.kind == "serviceaccount"
	input.operation in never_by_service_accounts
}

roles contains "login" if in_person

finished if {
	in_person
	not input.caller.pending
}

roles contains "person" if finished

roles contains "owner" if {
	finished
	input.owner == input.caller.id
}

roles contains "admin" if {
	finished
	input.caller.is_admin
}

roles contains "auditor" if {
	finished
	input.caller.is_auditor
}

# A key that is disabled, has ended, or is not taken from there, is nobody.
good if input.caller.standing == "good"

roles contains "key" if {
	input.caller.kind == "key"
	good
	in_scope
}

# A key that is narrowed in nothing. Another one could make itself a stronger one.
roles contains "whole-key" if {
	input.caller.kind == "key"
	good
	"all" in input.caller.scopes
	not input.caller.limited
}

roles contains "registration" if {
	input.caller.kind == "registration"
	good
}

roles contains "hook" if input.caller.kind == "hook"

default operation_allowed := false

operation_allowed if {
	not forbidden
	some role in roles
	role in operations[input.operation]
}

# --- Who may do what where as whom -----------------------------------------------------------------------------------

# A policy is subjects, actions and resources. The ones here are about this person and this target, now.
applicable[policy.id] := policy if {
	some policy in input.policies
	input.target.kind in about[policy.kind]
	names_person(policy)
	names_target(policy)
	in_force(policy)
}

# What kinds of target a kind of policy is about. An environment has targets of all kinds.
about := {
	"TargetConnect": {"Bzero"},
	"Proxy": {"Db", "Web"},
	"Kubernetes": {"Cluster"},
}

myself := {"id": input.person.id, "type": input.person.type}

names_person(policy) if myself in policy.subjects

names_person(policy) if {
	some group in policy.groups
	group.id in input.person.groups
}

names_target(policy) if {
	some environment in policy.environments
	environment.id == input.target.environment
}

names_target(policy) if {
	some target in policy.targets
	target.id == input.target.id
}

names_target(policy) if {
	some cluster in policy.clusters
	cluster.id == input.target.id
}

# Labels count that an administrator gave the target: what a host says of itself is not in the input. All that a
# policy asks for must hold, and what a target has no label for holds nowhere, "not this value" included.
names_target(policy) if {
	count(policy.targetLabels) > 0
	every wanted in policy.targetLabels {
		labelled(wanted)
	}
}

labelled(wanted) if {
	wanted.operator == "In"
	input.target.labels[wanted.key] in wanted.values
}

labelled(wanted) if {
	wanted.operator == "NotIn"
	is_string(input.target.labels[wanted.key])
	not input.target.labels[wanted.key] in wanted.values
}

labelled(wanted) if {
	wanted.operator == "Exists"
	is_string(input.target.labels[wanted.key])
}

expired(policy) if policy.expires <= input.now

disabled(policy) if policy.enabled == false

in_force(policy) if {
	not expired(policy)
	not disabled(policy)
}

# What the applicable policies give: the verb that is asked about; all of them when none is.
giving[id] := {input.verb} if {
	some id, policy in applicable
	gives(policy, input.verb)
}

giving[id] := {verb | some verb in verbs_of(policy); gives(policy, verb)} if {
	input.verb == null
	some id, policy in applicable
}

# Of the other kinds of target nobody says "Shell".
gives(policy, verb) if {
	policy.kind == "TargetConnect"
	verb.type in {"Shell", "FileTransfer", "Tunnel", "Handler"}
	verb in policy.verbs
}

gives(policy, verb) if {
	policy.kind == "Proxy"
	verb.type == proxied[input.target.kind]
	count(policy.verbs) == 0
}

gives(policy, verb) if {
	policy.kind == "Proxy"
	verb.type == proxied[input.target.kind]
	verb in policy.verbs
}

gives(policy, verb) if {
	policy.kind == "Kubernetes"
	verb.type == "Kubernetes"
}

proxied := {"Db": "Database", "Web": "Web"}

verbs_of(policy) := policy.verbs if policy.kind == "TargetConnect"

verbs_of(policy) := [{"type": "Database"}, {"type": "Web"}] if policy.kind == "Proxy"

verbs_of(policy) := [{"type": "Kubernetes"}] if policy.kind == "Kubernetes"

# As whom, one row each. `rule` is the user as the policy names it; null where nobody need be named.
ways contains {"policy": id, "verb": verb, "user": name.userName, "rule": name.userName} if {
	some id, verbs in giving
	some verb in verbs
	not verb.type in without_user
	some name in applicable[id].targetUsers
	name.userName != "{username}"
}

ways contains {"policy": id, "verb": verb, "user": input.person.username, "rule": "{username}"} if {
	is_string(input.person.username)
	some id, verbs in giving
	some verb in verbs
	not verb.type in without_user
	some name in applicable[id].targetUsers
	name.userName == "{username}"
}

ways contains {"policy": id, "verb": verb, "user": null, "rule": null} if {
	some id, verbs in giving
	some verb in verbs
	verb.type in without_user | {"Tunnel"}
	within_cluster(applicable[id])
}

# A proxy policy that lists no account of the database allows any.
ways contains {"policy": id, "verb": verb, "user": null, "rule": null} if {
	some id, verbs in giving
	some verb in verbs
	verb.type == "Database"
	count(applicable[id].targetUsers) == 0
}

without_user := {"Handler", "Web", "Kubernetes"}

# Who is somebody in a cluster is it by one policy, groups included.
within_cluster(policy) if policy.kind != "Kubernetes"

within_cluster(policy) if {
	policy.kind == "Kubernetes"
	not input.cluster
}

within_cluster(policy) if {
	policy.kind == "Kubernetes"
	some name in policy.clusterUsers
	name.name == input.cluster.user
	allowed := {group.name | some group in policy.clusterGroups}
	every group in input.cluster.groups {
		group in allowed
	}
}

# The rows that answer the question. A question without a user asks about any.
answers contains way if {
	input.user == null
	some way in ways
}

answers contains way if {
	input.user != null
	some way in ways
	way.user == input.user
}

answers contains {"policy": way.policy, "verb": way.verb, "user": input.user, "rule": input.user} if {
	input.user != null
	some way in ways
	way.verb.type == "Database"
	way.user == null
}

default any_user := false

any_user if {
	some way in answers
	way.user == null
}

# Values stay out of the log of statements when a policy about this person and target says so, whichever allows it.
default redacted := false

redacted if {
	some policy in applicable
	policy.redactQueries
}

# Whose sessions are recorded: the policy follows its subjects everywhere.
recorders[policy.id] := object.get(policy, "recordInput", false) if {
	some policy in input.recording
	names_person(policy)
	in_force(policy)
}

recorded if count(recorders) > 0

input_recorded if true in {typed | some typed in recorders}

# Who must be recorded gets nothing that cannot be.
must_record if {
	some policy in input.recording
	policy.required
	names_person(policy)
	in_force(policy)
}

# A recorded person's shell cannot be sealed: that would be a way round the recording.
sealed_shell if {
	input.mode == "sealed"
	input.verb.type == "Shell"
	recorded
}

unrecordable if sealed_shell

# Nobody reads what is sealed, and a tunnel may lead to an sshd, whose bytes are ciphertext in any mode.
unrecordable if {
	must_record
	input.mode == "sealed"
}

unrecordable if {
	must_record
	input.verb.type == "Tunnel"
}

default access_allowed := false

access_allowed if {
	count(answers) > 0
	not unrecordable
}

default output_kept := false

output_kept if {
	recorded
	input.mode == "inspected"
}

default record_required := false

record_required if must_record

default input_kept := false

input_kept if {
	input_recorded
	input.mode == "inspected"
}

reason := "allowed" if {
	access_allowed
} else := "your shells are recorded, so they cannot be sealed" if {
	count(answers) > 0
	sealed_shell
} else := "you must be recorded, and what goes this way cannot be" if {
	count(answers) > 0
} else := "no policy names you and this target" if {
	count(applicable) == 0
} else := "policies let you into this cluster, but not as this user with these groups" if {
	count(cluster_policies) > 0
	input.cluster
} else := "policies name you and this target, but none allows this verb" if {
	count(ways) == 0
} else := "policies allow this verb on this target, but not as this user"

cluster_policies contains id if {
	some id, policy in applicable
	policy.kind == "Kubernetes"
}

# The answer to a question about one verb.
access := {
	"allowed": access_allowed,
	"policies": {way.policy | some way in answers},
	"users": {{"user": way.user, "rule": way.rule} | some way in answers; way.user != null},
	"any_user": any_user,
	"redacted": redacted,
	"recorded": {"output": output_kept, "input": input_kept, "required": record_required},
	"reason": reason,
}

# What each policy is to a question about one verb: for administrators who ask.
judged[policy.id] := verdict(policy) if some policy in input.policies

verdict(policy) := "is about other kinds of target" if {
	not input.target.kind in about[policy.kind]
} else := "is disabled" if {
	disabled(policy)
} else := "has expired" if {
	expired(policy)
} else := "names the place, but not the subject" if {
	not names_person(policy)
} else := "names the subject, but not the place" if {
	not names_target(policy)
} else := "allows it" if {
	policy.id in {way.policy | some way in answers}
} else := "names subject and place, but does not give the verb" if {
	not gives(policy, input.verb)
} else := "gives the verb there, but not as this user"

# The answer to a question about none: what there is for this person on this target.
reach := {
	"users": {{"user": way.user, "rule": way.rule, "verb": way.verb} | some way in ways; way.user != null},
	"verbs": {way.verb | some way in ways},
	"cluster_users": {name.name | some id in cluster_policies; some name in applicable[id].clusterUsers},
	"cluster_groups": {name.name | some id in cluster_policies; some name in applicable[id].clusterGroups},
}
