// Write handlers for tribox in JavaScript: a thin layer over the contract in wit/handler.wit, of plain
// objects and functions. A handler is a description and a function from a message to effects:
//
//   export const handler = define({ name: "jars", version: "1.0.0", … }, (message) => {
//       const effects = new Effects();
//       …
//       return effects;
//   });
//
// Numbers in JSON are JavaScript's own: whole numbers are exact up to 2^53. What is thrown and is
// neither `Reject` nor `Retry` is a mistake of the handler: the message is parked as dead, and mended
// by another build.

import contract from "tribox:handler/documents@0.1.0";
import config from "wasi:config/store@0.2.0-rc.1";

/** The message can never be handled: it is parked as dead at once. */
export class Reject extends Error {
    tag = "reject";
}

/** The state is not ready for the message yet: it is handed over again later, with backoff. */
export class Retry extends Error {
    tag = "retry";
}

/** Where a message's key stands in it. */
export const keyFrom = {
    /** The nth token of the subject, from 0: of `accounts.7.debit`, token 1 is `7`. */
    subject: (token) => ({ tag: "subject-token", val: token }),
    header: (name) => ({ tag: "header", val: name }),
    /** A JSON Pointer, such as `/account`. */
    payload: (pointer) => ({ tag: "payload-field", val: pointer }),
};

/**
 * Makes the export of a component.
 *
 * `description` has `name`, `version`, `subscriptions` (each `{subject, key, readAhead}`; without a
 * `key` messages are handled in any order), `collections` and `publishes`.
 */
export function define(description, handle) {
    const { name, version, subscriptions, collections = [], publishes = [] } = description;
    const subscription = ({ subject, key = { tag: "none" }, readAhead = [] }) =>
        ({ subject, key, readAhead });
    return {
        describe: () =>
            ({ name, version, subscriptions: subscriptions.map(subscription), collections, publishes }),
        handle(message) {
            Math.random = chance(`${name}/${message.id}`);
            try {
                return handle(new Message(message)) ?? new Effects();
            } catch (error) {
                if (error instanceof Reject || error instanceof Retry) {
                    throw { tag: error.tag, val: error.message };
                }
                throw error;
            }
        },
    };
}

/** A message: `id`, `subject`, `key`, `headers`, `payload` (bytes) and `storedAt` (milliseconds). */
export class Message {
    constructor(message) {
        Object.assign(this, message);
        this.payload = Uint8Array.from(message.payload);
    }

    /** The payload as text. */
    text() {
        return decode(this.payload);
    }

    /**
     * The payload as JSON. A `shape` says which fields an object must have: `{amount: "integer",
     * reference: "string?"}`, of string, number, integer, boolean, object and array; `?`: may be
     * missing or null.
     */
    json(shape) {
        try {
            const value = JSON.parse(this.text());
            if (shape !== undefined) check(value, shape);
            return value;
        } catch (error) {
            const why = error.message;
            throw new Reject(`the payload of ${this.subject} is not the expected JSON: ${why}`);
        }
    }

    /** The nth token of the subject, from 0. */
    token(n) {
        return this.subject.split(".")[n];
    }

    /** The last token of the subject, which often says what is to be done. */
    get lastToken() {
        return this.subject.split(".").at(-1);
    }

    /** The first value of a header. */
    header(name) {
        return this.headers.find((header) => header.name === name)?.value;
    }
}

/**
 * Random numbers that repeat for a message, as the host's do: the engine's own seed is frozen into the
 * component. (The hash is FNV-1a, the generator mulberry32.)
 */
function chance(seed) {
    let state = 0x811c9dc5;
    for (const byte of encode(seed)) state = Math.imul(state ^ byte, 0x01000193);
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
}

const KINDS = {
    string: (value) => typeof value === "string",
    number: (value) => typeof value === "number",
    integer: (value) => Number.isSafeInteger(value),
    boolean: (value) => typeof value === "boolean",
    array: (value) => Array.isArray(value),
    object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

function check(value, shape) {
    if (!KINDS.object(value)) throw new Error("it is not an object");
    for (const [field, kind] of Object.entries(shape)) {
        const optional = kind.endsWith("?");
        const missing = value[field] === undefined || value[field] === null;
        if (missing && optional) continue;
        if (missing) throw new Error(`field ${field} is missing`);
        const name = optional ? kind.slice(0, -1) : kind;
        if (!KINDS[name](value[field])) throw new Error(`field ${field} is no ${name}`);
    }
}

/** The committed state. What is put during the call is not seen. */
export const documents = {
    /** A document, or undefined where there is none. */
    get(collection, key) {
        const body = contract.get(collection, key);
        return body === null || body === undefined ? undefined : JSON.parse(body);
    },

    /** `[key, document]` pairs by prefix, after key `after`: at most `limit`, at most 1,000. */
    page(collection, prefix, after = null, limit = 1000) {
        const found = contract.listByPrefix(collection, prefix, after, limit);
        return found.map(({ key, body }) => [key, JSON.parse(body)]);
    },
};

/** Settings of this handler: strings by name. */
export const settings = {
    get(name) {
        return config.get(name) ?? undefined;
    },

    /** A number; what is set and is none is the operator's mistake, and so a retry. */
    number(name, otherwise) {
        const value = settings.get(name);
        if (value === undefined) return otherwise;
        const number = Number(value);
        if (value.trim() === "" || !Number.isFinite(number)) {
            throw new Retry(`setting '${name}' is '${value}', which is not valid: it is no number`);
        }
        return number;
    },
};

/** All that handling one message does. Nothing happens before the host commits it. */
export class Effects {
    mutations = [];
    messages = [];
    cancellations = [];

    /** Creates a document or replaces it whole. Fields that are undefined are left out. */
    put(collection, key, body) {
        this.mutations.push({ tag: "put", val: { collection, key, body: JSON.stringify(body) } });
        return this;
    }

    delete(collection, key) {
        this.mutations.push({ tag: "delete", val: { collection, key } });
        return this;
    }

    /**
     * Sends a message: bytes as they are, anything else as JSON. `how` has any of `headers` (an
     * object), `after` or `at` (milliseconds), `expiresAfter`, `name` and `transient`.
     */
    send(subject, payload, how = {}) {
        const headers = Object.entries(how.headers ?? {}).map(([name, value]) => ({ name, value }));
        let due = null;
        if (how.after !== undefined) due = { tag: "after", val: how.after };
        if (how.at !== undefined) due = { tag: "at", val: how.at };
        const bytes = payload instanceof Uint8Array ? payload : encode(JSON.stringify(payload));
        this.messages.push({
            subject,
            headers,
            payload: bytes,
            delivery: how.transient ? "transient" : "durable",
            due,
            expiresAfter: how.expiresAfter ?? null,
            scheduleName: how.name ?? null,
        });
        return this;
    }

    /** Takes back the named message that is not yet due. */
    cancel(name) {
        this.cancellations.push(name);
        return this;
    }
}

/** UTF-8, by hand: QuickJS has no TextEncoder. */
export function encode(text) {
    const bytes = [];
    for (const character of text) {
        let code = character.codePointAt(0);
        if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
        if (code < 0x80) bytes.push(code);
        else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
        else if (code < 0x10000) {
            bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
        } else {
            bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63));
            bytes.push(0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
        }
    }
    return Uint8Array.from(bytes);
}

/** The text of UTF-8 bytes. */
export function decode(bytes) {
    let text = "";
    for (let at = 0; at < bytes.length; ) {
        const first = bytes[at++];
        const more = first < 0x80 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : -1;
        if (more < 0 || at + more > bytes.length) throw new Error("it is not UTF-8");
        let code = more === 0 ? first : first & (0x3f >> more);
        for (let n = 0; n < more; n++) {
            if ((bytes[at] & 0xc0) !== 0x80) throw new Error("it is not UTF-8");
            code = (code << 6) | (bytes[at++] & 63);
        }
        if (code > 0x10ffff) throw new Error("it is not UTF-8");
        text += String.fromCodePoint(code);
    }
    return text;
}
