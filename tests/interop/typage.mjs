// Runs the jobs of tests/interop.rs with typage: jobs as JSON on standard input, results on standard output. Bytes are
// base64 in both. The result of a failed job is {error}.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import * as age from "age-encryption";

const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

const generators = { hybrid: age.generateHybridIdentity, x25519: age.generateX25519Identity };

async function generate({ keyType }) {
  const identity = await generators[keyType]();
  return { identity, recipient: await age.identityToRecipient(identity) };
}

async function open({ file, identity }) {
  const decrypter = new age.Decrypter();
  decrypter.addIdentity(identity);
  return { plaintext: base64(await decrypter.decrypt(bytes(file))) };
}

async function write({ plaintext, recipients, binding }) {
  const encrypter = new age.Encrypter();
  if (binding) {
    const stanza = new age.Stanza(["bulla.dev/v1", ...binding], fingerprints(recipients));
    encrypter.addRecipient({ wrapFileKey: () => [stanza] });
  }
  recipients.forEach((recipient) => encrypter.addRecipient(recipient));
  return { file: base64(await encrypter.encrypt(bytes(plaintext))) };
}

// Written from docs/format.md, not from the crate.
function fingerprints(recipients) {
  const digest = (recipient) => createHash("sha256").update(`bulla.dev/v1/fingerprint\0${recipient}`).digest();
  return new Uint8Array(Buffer.concat(recipients.map((recipient) => digest(recipient).subarray(0, 8))));
}

const verbs = { generate, open, write };
const results = [];
for (const job of JSON.parse(readFileSync(0, "utf8"))) {
  results.push(await verbs[job.verb](job).catch((error) => ({ error: String(error) })));
}
writeFileSync(1, JSON.stringify(results));
