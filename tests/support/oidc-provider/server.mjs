// A certified OpenID provider for the tests, on loopback: http://127.0.0.1:PORT.
//
//   node server.mjs REDIRECT_URI
//
// Prints its issuer on the first line of standard output, runs until standard input closes.
// POST /-/rotate replaces all signing keys, as an operator does in an emergency.

import { createServer } from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

// Standard output is for the issuer only; nobody reads it after that line.
console.log = console.error;
console.info = console.error;

const [redirectUri] = process.argv.slice(2);
const people = { ana: ['data-platform'], ben: ['support-leads', 'dba'], nobody: [] };

let generation = 0;
let handle;

async function keys() {
  generation += 1;
  return Promise.all(
    ['RS256', 'ES256'].map(async (alg) => {
      const { privateKey } = await generateKeyPair(alg, { extractable: true });
      return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg}-${generation}` };
    }),
  );
}

function client(id, alg, secret) {
  return {
    client_id: id,
    ...(secret ? { client_secret: secret } : {}),
    token_endpoint_auth_method: secret ? 'client_secret_basic' : 'none',
    id_token_signed_response_alg: alg,
    redirect_uris: [redirectUri],
    response_types: ['code'],
    grant_types: ['authorization_code'],
    require_auth_time: true,
  };
}

async function start(issuer) {
  const provider = new Provider(issuer, {
    jwks: { keys: await keys() },
    clients: [
      client('countersign-rs256', 'RS256', 'a secret only for tests, with : and % in it'),
      client('countersign-es256', 'ES256'),
    ],
    cookies: { keys: ['only for tests'] },
    pkce: { required: () => true },
    claims: { openid: ['sub'], groups: ['groups'] },
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, groups: people[sub] }) }),
  });
  handle = provider.callback();
}

const server = createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/-/rotate') {
    await start(`http://127.0.0.1:${server.address().port}`);
    response.end();
    return;
  }
  handle(request, response);
});

server.listen(0, '127.0.0.1', async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  await start(issuer);
  process.stdout.write(`${issuer}\n`);
});

process.stdin.on('end', () => process.exit(0)).resume();
