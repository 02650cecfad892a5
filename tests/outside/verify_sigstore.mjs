// Verify bundles with Sigstore's own JavaScript library; nothing of ours takes part.
//
//     node verify_sigstore.mjs PUBLIC_KEY.pem BUNDLE.json...
//
// Prints one line a bundle, "ok" and the SHA-256 of its payload, and exits 0 only if every bundle verifies. The library takes one signature
// a bundle: a statement with more of them is first written with one each, by epgfn inspect --sigstore FOLDER.
// Needs node 20 or later and, once: npm install --prefix tests/outside --no-package-lock

import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { Verifier, toSignedEntity, toTrustMaterial } from "@sigstore/verify";

const [keyPath, ...bundlePaths] = process.argv.slice(2);
const key = createPublicKey(readFileSync(keyPath));
const hint = createHash("sha256").update(key.export({ type: "spki", format: "der" })).digest("hex");

// No certificate authority, no public log: the one key an auditor trusts, found by its hint.
const nothing = { tlogs: [], ctlogs: [], certificateAuthorities: [], timestampAuthorities: [] };
const trusted = toTrustMaterial(nothing, (asked) => {
  if (asked !== hint) throw new Error("the bundle names another key");
  return { publicKey: key, validFor: () => true };
});
const verifier = new Verifier(trusted, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });

let failed = bundlePaths.length === 0;
for (const path of bundlePaths) {
  try {
    const bundle = bundleFromJSON(JSON.parse(readFileSync(path, "utf8")));
    verifier.verify(toSignedEntity(bundle));
    const payload = bundle.content.dsseEnvelope.payload;
    console.log("ok", createHash("sha256").update(payload).digest("hex"));
  } catch (error) {
    console.log("refused", error.message);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);
