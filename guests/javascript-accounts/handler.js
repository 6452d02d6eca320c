// @ts-check
// Debits and credits, with a warning, a deadline and its cancellation: what the Rust example does.

import { define, documents, Effects, keyFrom, Reject, settings } from "./tribox.js";

const GRACE = 10 * 24 * 60 * 60 * 1000;

/** @typedef {import("./tribox.js").Message} Message */

/**
 * What stands under an account's id. Amounts are cents.
 * @typedef {{ balance: number, changes: number, reference?: string, overdrawn_since?: number,
 *     blocked?: boolean }} Account
 */

/** @param {string} subject */
const keyed = (subject) => ({ subject, key: keyFrom.subject(1), readAhead: ["accounts"] });

const description = {
    name: "accounts",
    version: "0.1.0",
    subscriptions: [
        keyed("accounts.*.debit"),
        keyed("accounts.*.credit"),
        keyed("accounts.*.enforce-overdrawn"),
    ],
    collections: ["accounts"],
    publishes: ["accounts.events.*.*", "accounts.*.enforce-overdrawn"],
};

export const handler = define(description, (message) => {
    /** @type {Account} */
    const account = documents.get("accounts", message.key) ?? { balance: 0, changes: 0 };
    switch (message.lastToken) {
        case "debit":
            return change(message, account, -1);
        case "credit":
            return change(message, account, 1);
        default:
            return enforce(message, account);
    }
});

/**
 * `accounts.<id>.debit` and `accounts.<id>.credit`: cents, and what the bank statement shows.
 * @param {Message} message
 */
function command(message) {
    const command = message.json({ amount: "integer", reference: "string?" });
    if (command.amount <= 0) throw new Reject(`amount ${command.amount} must be above zero`);
    return command;
}

/**
 * @param {Message} message
 * @param {Account} account
 * @param {1 | -1} sign
 */
function change(message, account, sign) {
    const id = message.key;
    const { amount: cents, reference } = command(message);
    const threshold = settings.number("threshold", 100);
    const amount = sign * cents;
    const before = account.balance;
    const balance = before + amount;
    if (!Number.isSafeInteger(before) || !Number.isSafeInteger(balance)) {
        throw new Reject(`${before} and ${amount} are too much to add`);
    }
    account.balance = balance;
    account.changes += 1;
    account.reference = reference ?? undefined;

    const effects = new Effects();
    effects.send(`accounts.events.${id}.balance-changed`, {
        account: id,
        amount,
        balance,
        sequence: account.changes,
        reference: account.reference,
    });
    if (before >= threshold && balance < threshold) {
        effects.send(`accounts.events.${id}.low-balance`, { account: id, balance, threshold });
    }
    if (before >= 0 && balance < 0) {
        const since = message.storedAt;
        account.overdrawn_since = since;
        effects.send(`accounts.events.${id}.overdrawn`, { account: id, balance });
        const when = { at: since + GRACE, name: deadline(id) };
        effects.send(`accounts.${id}.enforce-overdrawn`, { since }, when);
    }
    if (before < 0 && balance >= 0) {
        account.overdrawn_since = undefined;
        account.blocked = undefined;
        effects.cancel(deadline(id));
    }
    return effects.put("accounts", id, account);
}

/**
 * A credit takes the deadline back only as long as it is not yet due, so look again.
 * @param {Message} message
 * @param {Account} account
 */
function enforce(message, account) {
    const id = message.key;
    const { since } = message.json({ since: "integer" });
    const effects = new Effects();
    if (account.overdrawn_since === since) {
        account.blocked = true;
        effects.put("accounts", id, account);
        const blocked = { account: id, balance: account.balance };
        effects.send(`accounts.events.${id}.blocked`, blocked);
    }
    return effects;
}

/** @param {string} id */
const deadline = (id) => `overdrawn-${id}`;
