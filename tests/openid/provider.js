// A real OpenID provider for a test: it checks PKCE, the client's secret and its address as any other would. Who signs in, and
// which keys it has, is said over /control. `node provider.js CLIENT_SECRET REDIRECT_URL` prints its address.
import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { Provider } from "oidc-provider";

const [secret, redirect] = process.argv.slice(2);
const people = {
  anna: { email: "anna@example.com", email_verified: true, groups: ["ops", "others"] },
  boss: { email: "boss@example.com", email_verified: true, groups: ["owners"] },
  vera: { email: "vera@example.com", email_verified: true, groups: ["others"] },
  evan: { email: "evan@elsewhere.example", email_verified: true, groups: ["owners"] },
};
const kinds = {
  RS256: ["rsa", { modulusLength: 2048 }],
  ES256: ["ec", { namedCurve: "P-256" }],
  EdDSA: ["ed25519", {}],
};
let person = "anna";
let answer;

function provider(issuer, alg, inToken) {
  const [kind, options] = kinds[alg];
  const key = generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" });
  const made = new Provider(issuer, {
    clients: [{
      client_id: "waymark",
      client_secret: secret,
      redirect_uris: [redirect],
      response_types: ["code"],
      grant_types: ["authorization_code"],
      id_token_signed_response_alg: alg,
    }],
    jwks: { keys: [{ ...key, alg, use: "sig", kid: randomUUID() }] },
    cookies: { keys: [randomUUID()] },
    pkce: { required: () => true },
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "email", "groups"],
    // Otherwise claims come from the userinfo endpoint alone.
    conformIdTokenClaims: !inToken,
    enabledJWA: { idTokenSigningAlgValues: Object.keys(kinds) },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    async loadExistingGrant(ctx) {
      const { client, session } = ctx.oidc;
      const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope("openid email groups");
      await grant.save();
      return grant;
    },
  });
  answer = made.callback();
  return made;
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/control") {
    person = url.searchParams.get("person") ?? person;
    const alg = url.searchParams.get("alg");
    if (alg) current = provider(address, alg, true);
    response.end();
  } else if (url.pathname.startsWith("/interaction/")) {
    // Whoever sits before the browser signs in, or declines.
    const result = person === "nobody"
      ? { error: "access_denied", error_description: "no <script>alert(1)</script> thanks" }
      : { login: { accountId: person } };
    await current.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  } else {
    answer(request, response);
  }
});
let current, address;
server.listen(0, "127.0.0.1", () => {
  address = `http://127.0.0.1:${server.address().port}`;
  current = provider(address, "RS256", false);
  console.log(address);
});
