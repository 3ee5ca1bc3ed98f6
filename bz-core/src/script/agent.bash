#!/usr/bin/env bash
# Makes this host a target: gets bz-agent from the server, compares it with the digest that stands here, registers the host
# under the trust bundle that stands here, and runs the agent. A second run changes nothing that is done.
#
# It may hold a registration token: keep it like a password until the token is used or has ended.
set -euo pipefail
umask 077

server=@@SERVER@@
environment=@@ENVIRONMENT@@
naming=@@NAMING@@
given_name=@@NAME@@
token=@@TOKEN@@
bundle=@@BUNDLE@@
server_ca=@@SERVER_CA@@
issuer_ca=@@ISSUER_CA@@

usage() {
  cat <<'END'
usage: bash SCRIPT [OPTION]...
  --state-dir DIR    where the agent keeps its identity [/var/lib/bz-agent as root, else ~/.local/state/bz-agent]
  --install-dir DIR  where its program goes [/usr/local/bin as root where that can be written, else bin in the state folder]
  --name NAME        the target's name, whatever the script would call it
  --bundle FILE      the organization's trust bundle, where none stands in the script
  --ca FILE          certificates (PEM) of the authority of the server's certificate, likewise
  --agent FILE       the agent's program, which is here already; it is compared with the digest all the same
  --foreground       run the agent in the end, in place of this script
  --no-service       leave the agent to be run by hand
The registration key may also be in the variable BZ_REGISTRATION_KEY, and the address of the cloud's metadata in
BZ_METADATA_URL.
END
}

# Prints name and SHA-256 of the program for a machine of which `uname -sm` says this.
artifact() {
  case $1 in
@@ARTIFACTS@@
    *) return 1 ;;
  esac
}

say() { printf 'bz: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# get URL FILE: what is at the server.
get() {
  if has curl; then
    local -a options=(--fail --silent --show-error --connect-timeout 20 --output "$2")
    case $1 in https:*) options+=(--proto '=https' --tlsv1.2) ;; esac
    if [ -s "$work/server-ca.pem" ]; then options+=(--cacert "$work/server-ca.pem"); fi
    curl "${options[@]}" "$1"
  elif has wget; then
    local -a options=(--quiet --timeout=20 --max-redirect=0 --output-document="$2")
    if [ -s "$work/server-ca.pem" ]; then options+=(--ca-certificate="$work/server-ca.pem"); fi
    wget "${options[@]}" "$1"
  else
    fail "curl or wget is needed to get the agent: install one, or bring its program and name it by --agent"
  fi
}

sum() {
  if has sha256sum; then
    sha256sum <"$1" | cut -d ' ' -f 1
  elif has shasum; then
    shasum -a 256 <"$1" | cut -d ' ' -f 1
  elif has openssl; then
    openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
  else
    fail "sha256sum, shasum or openssl is needed to check the agent: install one"
  fi
}

# metadata PATH [HEADER]: what the cloud says of this machine.
metadata() {
  has curl || fail "curl is needed to ask the cloud for this machine's name"
  local -a options=(--fail --silent --show-error --noproxy '*' --max-time 5)
  if [ $# -gt 1 ]; then options+=(--header "$2"); fi
  curl "${options[@]}" "${BZ_METADATA_URL:-http://169.254.169.254}/$1" || fail "this cloud does not say who this machine is"
}

# The target's name: letters, digits, '-', '_' and '.', of which the first is a letter or digit.
target_name() {
  local name session
  case $naming in
    given) name=$given_name ;;
    aws)
      session=$(curl --fail --silent --show-error --noproxy '*' --max-time 5 --request PUT \
        --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
        "${BZ_METADATA_URL:-http://169.254.169.254}/latest/api/token") || fail "this machine is not at AWS"
      name=$(metadata latest/meta-data/instance-id "X-aws-ec2-metadata-token: $session")
      ;;
    digitalocean) name=$(metadata metadata/v1/hostname) ;;
    timestamp) name="$(uname -n)-$(date -u +%Y%m%dT%H%M%SZ)" ;;
    *) name=$(uname -n) ;;
  esac
  name=$(printf '%s' "$name" | LC_ALL=C tr -c 'A-Za-z0-9._-' '-' | LC_ALL=C sed 's/^[^A-Za-z0-9]*//' | LC_ALL=C cut -c 1-100)
  [ -n "$name" ] || fail "this machine has no name: give it one by --name"
  printf '%s' "$name"
}

# Whether files can be made in a folder.
writable() { mkdir -p "$1" 2>/dev/null && [ -w "$1" ]; }

# install FOLDER AGENT: the agent's program, when it is what it must be. Its path is then in $program.
install_agent() {
  local found name want
  found=$(artifact "$(uname -sm)") || fail "the server has no agent for this machine ($(uname -sm))"
  name=${found% *}
  want=${found#* }
  program=$1/bz-agent
  if [ -x "$program" ] && [ "$(sum "$program")" = "$want" ]; then
    say "$program is there already"
    return
  fi
  writable "$1" || fail "$1 cannot be written: name another folder by --install-dir"
  local new=$1/.bz-agent.new
  if [ -n "$2" ]; then cp "$2" "$new"; else get "$server/api/v2/artifacts/$name" "$new" || fail "$name does not come from $server"; fi
  local got
  got=$(sum "$new")
  if [ "$got" != "$want" ]; then
    rm -f "$new"
    fail "REFUSED: the agent's program has SHA-256 $got and must have $want; it was not run"
  fi
  chmod 755 "$new"
  mv "$new" "$program"
  "$program" --version >/dev/null || fail "$program does not run here: may programs run in $1?"
}

# register STATE NAME
register() {
  if "$program" --state-dir "$1" status >/dev/null 2>&1; then
    say "this host is registered already"
    return
  fi
  local key=${BZ_REGISTRATION_KEY:-$token}
  case $key in
    '' | '<'*) fail "the script holds no registration key: put one into the variable BZ_REGISTRATION_KEY" ;;
  esac
  [ -s "$work/bundle.toml" ] || fail "PINS ARE MISSING: give the organization's trust bundle, from its administrator, by --bundle FILE." \
    "A server does not vouch for itself; \`bz generate\` makes scripts that hold the bundle"
  printf '%s\n' "$key" >"$work/key"
  local -a options=(--server="$server" --bundle="$work/bundle.toml" --registration-key-file="$work/key" --name="$2")
  if [ -n "$environment" ]; then options+=(--environment="$environment"); fi
  if [ -s "$work/server-ca.pem" ]; then options+=(--ca="$work/server-ca.pem"); fi
  if [ -s "$work/issuer-ca.pem" ]; then options+=(--issuer-ca="$work/issuer-ca.pem"); fi
  "$program" --state-dir "$1" register "${options[@]}"
}

# service STATE: a unit of systemd.
service() {
  case $program$1 in
    *[!A-Za-z0-9/._-]*) fail "systemd is told only of plain paths: use --no-service, or other folders" ;;
  esac
  umask 022
  cat >/etc/systemd/system/bz-agent.service <<END
[Unit]
Description=bz-agent: this host as a target
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=$program --state-dir $1 run
Restart=always
RestartSec=5
# Shells outlive the agent, which finds them again.
KillMode=process

[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --now bz-agent.service
  say "the agent runs as bz-agent.service"
}

main() {
  local state='' folder='' name='' bundle_file='' ca_file='' agent='' foreground=no service=yes
  while [ $# -gt 0 ]; do
    case $1 in
      --state-dir | --install-dir | --name | --bundle | --ca | --agent)
        [ $# -gt 1 ] || fail "$1 needs a value"
        case $1 in
          --state-dir) state=$2 ;;
          --install-dir) folder=$2 ;;
          --name) name=$2 ;;
          --bundle) bundle_file=$2 ;;
          --ca) ca_file=$2 ;;
          --agent) agent=$2 ;;
        esac
        shift 2
        ;;
      --foreground)
        foreground=yes
        shift
        ;;
      --no-service)
        service=no
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) fail "$1 is no option: --help lists them" ;;
    esac
  done
  if [ -z "$state" ]; then
    if [ "$(id -u)" = 0 ]; then state=/var/lib/bz-agent; else state=${XDG_STATE_HOME:-${HOME:?}/.local/state}/bz-agent; fi
  fi
  writable "$state" || fail "$state cannot be written: name another folder by --state-dir"
  state=$(cd "$state" && pwd)
  if [ -z "$folder" ]; then
    folder=$state/bin
    if [ "$(id -u)" = 0 ] && writable /usr/local/bin; then folder=/usr/local/bin; fi
  fi
  work=$(mktemp -d "$state/.setup.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  printf '%s' "$bundle" >"$work/bundle.toml"
  printf '%s' "$server_ca" >"$work/server-ca.pem"
  printf '%s' "$issuer_ca" >"$work/issuer-ca.pem"
  if [ -n "$bundle_file" ]; then cat "$bundle_file" >"$work/bundle.toml"; fi
  if [ -n "$ca_file" ]; then cat "$ca_file" >"$work/server-ca.pem"; fi
  install_agent "$folder" "$agent"
  if [ -z "$name" ]; then name=$(target_name); fi
  register "$state" "$name"
  unset BZ_REGISTRATION_KEY
  rm -rf "$work"
  if [ "$foreground" = yes ]; then
    exec "$program" --state-dir "$state" run
  elif [ "$service" = yes ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
    service "$state"
  else
    say "run the agent, and have it run again whenever this host starts:"
    say "$program --state-dir $state run"
  fi
}

main "$@"
