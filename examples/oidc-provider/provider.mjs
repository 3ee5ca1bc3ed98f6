// A certified OpenID provider on loopback, for tests.
//
//   node provider.mjs ['{"port":0,"idTokenSeconds":3600,"deviceFlow":false}']
//
// The first line on stdout is {"issuer":"http://127.0.0.1:PORT"}. From then on each line on stdin is one order and gets
// one line in answer: {"rotate":"published"} or {"rotate":"withdrawn"} (what becomes of the old key),
// {"idTokenSeconds":5}; {"forwardSeconds":60} (moves the clock). The end of stdin ends the provider, so that it cannot outlive the test that started it.
// There is no password: whoever reaches it may be anybody, which is why it listens on 127.0.0.1 and nowhere else.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import http from 'node:http';
import readline from 'node:readline';
import { Provider } from 'oidc-provider';
import { loginPage } from './page.mjs';
import { Store } from './store.mjs';

const HOST = '127.0.0.1';
const CLIENT = 'bz-cli';
// As some providers do it: a secret that is on every desk.
const DESKTOP = { client_id: 'bz-desktop', client_secret: 'kept from nobody', token_endpoint_auth_method: 'client_secret_basic' };
const USERS = {
  alice: { name: 'Alice', email: 'alice@example.com', email_verified: true, hd: 'example.com', groups: ['admins', 'dev'] },
  bob: { name: 'Bob', email: 'bob@example.com', email_verified: true, hd: 'example.com', groups: ['dev'] },
  eve: { name: 'Eve', email: 'eve@elsewhere.test', email_verified: true, hd: 'elsewhere.test', groups: [] },
};

// stdout belongs to the protocol above; the library's advice goes where people look for it.
console.info = console.error;

const options = { port: 0, idTokenSeconds: 3600, deviceFlow: false, ...JSON.parse(process.argv[2] ?? '{}') };
const cookieKey = randomBytes(32).toString('base64url');
let keys = [newKey()];
let idTokenSeconds = options.idTokenSeconds;
let provider;
let answer;

// Both the library and the store below it tell the time by this.
const machineNow = Date.now;
let aheadSeconds = 0;
Date.now = () => machineNow() + aheadSeconds * 1000;

const server = http.createServer((request, response) => {
  // A name rebound to loopback must not reach a provider that asks for no password.
  if (request.headers.host !== `${HOST}:${server.address().port}`) {
    response.writeHead(421).end();
  } else if (request.url.startsWith('/login/')) {
    login(request, response).catch((error) => response.writeHead(400, { 'content-type': 'text/plain' }).end(`${error.message}\n`));
  } else {
    answer(request, response);
  }
});

server.listen(options.port, HOST, () => {
  reload();
  print({ issuer: issuer() });
  const orders = readline.createInterface({ input: process.stdin });
  orders.on('line', (line) => print(obey(line)));
  orders.on('close', () => process.exit(0));
});

function issuer() {
  return `http://${HOST}:${server.address().port}`;
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function obey(line) {
  try {
    const order = JSON.parse(line);
    if (Number.isSafeInteger(order.idTokenSeconds) && order.idTokenSeconds > 0) {
      idTokenSeconds = order.idTokenSeconds;
    } else if (Number.isSafeInteger(order.forwardSeconds) && order.forwardSeconds > 0) {
      aheadSeconds += order.forwardSeconds;
    } else if (order.rotate === 'published' || order.rotate === 'withdrawn') {
      keys = [newKey(), ...(order.rotate === 'published' ? keys : [])];
      reload();
    } else {
      return { error: 'no such order' };
    }
    return { kid: keys[0].kid };
  } catch (error) {
    return { error: error.message };
  }
}

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), use: 'sig', alg: 'RS256' };
}

// Keys cannot be changed in a running provider, so a rotation makes a new one over the same store and issuer.
function reload() {
  provider = new Provider(issuer(), configuration());
  answer = provider.callback();
}

function configuration() {
  return {
    adapter: Store,
    jwks: { keys },
    cookies: { keys: [cookieKey] },
    clients: [{ client_id: CLIENT, token_endpoint_auth_method: 'none' }, DESKTOP].map((client) => ({
      ...client,
      application_type: 'native',
      // For a native client the port of these is ignored; the path is not.
      redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback', 'http://[::1]/callback'],
      response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', ...(options.deviceFlow ? ['urn:ietf:params:oauth:grant-type:device_code'] : [])],
    })),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
    claims: { openid: ['sub', 'hd'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    // The big providers put claims into the ID token and not only behind userinfo; agents see the ID token alone.
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false }, deviceFlow: { enabled: options.deviceFlow }, revocation: { enabled: true } },
    interactions: { url: (context, interaction) => `/login/${interaction.uid}` },
    ttl: {
      IdToken: () => idTokenSeconds,
      AccessToken: 600, AuthorizationCode: 60, DeviceCode: 600, Grant: 86400, Interaction: 600, RefreshToken: 86400, Session: 3600,
    },
    findAccount: (context, id) => account(id),
  };
}

function account(id) {
  return Object.hasOwn(USERS, id) ? { accountId: id, claims: () => ({ sub: id, ...USERS[id] }) } : undefined;
}

async function login(request, response) {
  const interaction = await provider.interactionDetails(request, response);
  const { client_id: clientId, login_hint: hint, scope } = interaction.params;
  const user = request.method === 'POST' ? (await form(request)).get('user') : undefined;
  if (!user || !account(user)) {
    const status = request.method === 'POST' ? 403 : 200;
    response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
    response.end(loginPage({ action: `/login/${interaction.uid}`, clientId, suggestion: user ?? hint ?? '', refused: status === 403 }));
    return;
  }
  const grant = new provider.Grant({ accountId: user, clientId });
  grant.addOIDCScope(scope ?? 'openid');
  grant.addOIDCClaims(['hd', 'email', 'email_verified', 'name', 'groups']);
  const grantId = await grant.save();
  await provider.interactionFinished(request, response, { login: { accountId: user }, consent: { grantId } });
}

async function form(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 4096) throw new Error('the form is too large');
  }
  return new URLSearchParams(body);
}
