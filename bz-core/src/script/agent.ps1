# Makes this host a target: gets bz-agent from the server, compares it with the digest that stands here, registers the host
# under the trust bundle that stands here, and has Windows run the agent. Run it as an administrator.
#
# It may hold a registration token: keep it like a password until the token is used or has ended.
param(
  [string]$StateDir = "$env:ProgramData\bz-agent",
  [string]$Name = '',
  [string]$BundleFile = '',
  [switch]$NoService
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$Server = @@SERVER@@
$Environment = @@ENVIRONMENT@@
$Naming = @@NAMING@@
$GivenName = @@NAME@@
$Token = @@TOKEN@@
$Bundle = @@BUNDLE@@
$ServerCa = @@SERVER_CA@@
$IssuerCa = @@ISSUER_CA@@
# What Windows calls the processor: the program's name and its SHA-256.
$Artifacts = @{
@@ARTIFACTS@@
}

function Get-TargetName {
  $found = switch ($Naming) {
    'given' { $GivenName }
    'aws' {
      $session = Invoke-RestMethod -Method Put -TimeoutSec 5 -Uri 'http://169.254.169.254/latest/api/token' `
        -Headers @{ 'X-aws-ec2-metadata-token-ttl-seconds' = '60' }
      Invoke-RestMethod -TimeoutSec 5 -Uri 'http://169.254.169.254/latest/meta-data/instance-id' `
        -Headers @{ 'X-aws-ec2-metadata-token' = $session }
    }
    'digitalocean' { Invoke-RestMethod -TimeoutSec 5 -Uri 'http://169.254.169.254/metadata/v1/hostname' }
    'timestamp' { '{0}-{1:yyyyMMddTHHmmssZ}' -f $env:COMPUTERNAME, (Get-Date).ToUniversalTime() }
    default { $env:COMPUTERNAME }
  }
  $plain = ($found -replace '[^A-Za-z0-9._-]', '-') -replace '^[^A-Za-z0-9]+', ''
  if (-not $plain) { throw 'This machine has no name: give it one by -Name.' }
  $plain.Substring(0, [Math]::Min(100, $plain.Length))
}

if (-not $Artifacts.ContainsKey($env:PROCESSOR_ARCHITECTURE)) {
  throw "The server has no agent for Windows on $env:PROCESSOR_ARCHITECTURE."
}
if ($BundleFile) { $Bundle = Get-Content -Raw -LiteralPath $BundleFile }
if (-not $Bundle) {
  throw 'PINS ARE MISSING: give the trust bundle of the organization, from its administrator, by -BundleFile.'
}
$Key = if ($env:BZ_REGISTRATION_KEY) { $env:BZ_REGISTRATION_KEY } else { $Token }
if (-not $Key -or $Key.StartsWith('<')) {
  throw 'The script holds no registration key: put one into the variable BZ_REGISTRATION_KEY.'
}

New-Item -ItemType Directory -Force -Path $StateDir | Out-Null
# For administrators and the system alone.
& icacls.exe $StateDir /inheritance:r /grant:r '*S-1-5-32-544:(OI)(CI)F' '*S-1-5-18:(OI)(CI)F' | Out-Null
$Program = Join-Path $StateDir 'bz-agent.exe'
$Artifact = $Artifacts[$env:PROCESSOR_ARCHITECTURE]
$Draft = Join-Path $StateDir 'bz-agent.new'
$Download = @('--fail', '--silent', '--show-error', '--proto', '=https', '--tlsv1.2', '--output', $Draft)
if ($ServerCa) {
  $CaFile = Join-Path $StateDir 'server-ca.pem'
  [IO.File]::WriteAllText($CaFile, $ServerCa)
  $Download += @('--cacert', $CaFile)
}
& curl.exe @Download "$Server/api/v2/artifacts/$($Artifact.Name)"
if ($LASTEXITCODE -ne 0) { throw "The agent does not come from $Server." }
$Got = (Get-FileHash -Algorithm SHA256 -LiteralPath $Draft).Hash.ToLowerInvariant()
if ($Got -ne $Artifact.Sha256) {
  Remove-Item -LiteralPath $Draft
  throw "REFUSED: the agent's program has SHA-256 $Got and must have $($Artifact.Sha256); it was not run."
}
Move-Item -Force -LiteralPath $Draft -Destination $Program

$BundlePath = Join-Path $StateDir 'bundle.toml'
[IO.File]::WriteAllText($BundlePath, $Bundle)
if (-not $Name) { $Name = Get-TargetName }
$Register = @('--state-dir', $StateDir, 'register', "--server=$Server", "--bundle=$BundlePath", "--name=$Name")
if ($Environment) { $Register += "--environment=$Environment" }
if ($ServerCa) { $Register += "--ca=$CaFile" }
if ($IssuerCa) {
  $IssuerFile = Join-Path $StateDir 'issuer-ca.pem'
  [IO.File]::WriteAllText($IssuerFile, $IssuerCa)
  $Register += "--issuer-ca=$IssuerFile"
}
$env:BZ_REGISTRATION_KEY = $Key
try {
  & $Program @Register
  if ($LASTEXITCODE -ne 0) { throw 'The host was not registered.' }
} finally {
  Remove-Item Env:BZ_REGISTRATION_KEY
}
if ($NoService) {
  Write-Output "Run the agent: $Program --state-dir $StateDir run"
} else {
  New-Service -Name 'bz-agent' -StartupType Automatic -BinaryPathName "`"$Program`" --state-dir `"$StateDir`" run" | Out-Null
  Start-Service -Name 'bz-agent'
}
