// Debits and credits, with a warning, a deadline and its cancellation: what the Rust example does.

import {
    define,
    type Description,
    documents,
    Effects,
    keyFrom,
    type Message,
    Reject,
    settings,
    type Subscription,
} from "./tribox.js";

const GRACE = 10 * 24 * 60 * 60 * 1000;

/** What stands under an account's id. Amounts are cents. */
interface Account {
    balance: number;
    changes: number;
    reference?: string;
    /** Since when it is below zero, in milliseconds since the Unix epoch. */
    overdrawn_since?: number;
    blocked?: boolean;
}

const keyed = (subject: string): Subscription => {
    return { subject, key: keyFrom.subject(1), readAhead: ["accounts"] };
};

const description: Description = {
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
    const account = documents.get<Account>("accounts", message.key) ?? { balance: 0, changes: 0 };
    switch (message.lastToken) {
        case "debit":
            return change(message, account, -1);
        case "credit":
            return change(message, account, 1);
        default:
            return enforce(message, account);
    }
});

/** `accounts.<id>.debit` and `accounts.<id>.credit`: cents, and what the bank statement shows. */
function command(message: Message) {
    const command = message.json({ amount: "integer", reference: "string?" });
    if (command.amount <= 0) throw new Reject(`amount ${command.amount} must be above zero`);
    return command;
}

function change(message: Message, account: Account, sign: 1 | -1): Effects {
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

/** A credit takes the deadline back only as long as it is not yet due, so look again. */
function enforce(message: Message, account: Account): Effects {
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

const deadline = (id: string) => `overdrawn-${id}`;
