// A certified OpenID provider (npm's oidc-provider) on loopback: node openid_provider.mjs MODULE PORT CLIENT_JSON
// Whoever types a login is that user, whatever the password; "expert..." is in the group of experts.
import { pathToFileURL } from "node:url";

const [module, port, client] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(module));

const claimsOf = (login) => ({
  sub: `id-of-${login}`,
  preferred_username: login,
  name: `Dr. ${login[0].toUpperCase()}${login.slice(1)}`,
  email: `${login}@hospital.example`,
  email_verified: true,
  groups: login.startsWith("expert") ? ["staff", "radiology-experts"] : ["staff"],
});

const provider = new Provider(`http://localhost:${port}`, {
  clients: [JSON.parse(client)],
  claims: { openid: ["sub"], profile: ["preferred_username", "name", "groups"], email: ["email", "email_verified"] },
  findAccount: (ctx, login) => ({ accountId: login, claims: () => claimsOf(login) }),
  pkce: { required: () => true },
  cookies: { keys: ["a key of the test"] },
});
provider.listen(Number(port), "127.0.0.1");
