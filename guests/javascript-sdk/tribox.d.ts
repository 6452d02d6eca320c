// The types of tribox.js, for TypeScript and for editors: what a handler gets wrong is told before
// it is built.

/** The kind of a field; with `?` it may be missing or null. */
export type Kind = "string" | "number" | "integer" | "boolean" | "object" | "array";

/** Which fields an object must have: `{amount: "integer", reference: "string?"}`. */
export type Shape = { readonly [field: string]: Kind | `${Kind}?` };

type Value<K> = K extends "string" ? string
    : K extends "number" | "integer" ? number
    : K extends "boolean" ? boolean
    : K extends "array" ? unknown[]
    : { [field: string]: unknown };

type Optional<K> = K extends `${infer Required}?` ? Value<Required> | null : never;

/** An object of a shape. */
export type Of<S extends Shape> =
    & { [F in keyof S as S[F] extends Kind ? F : never]: Value<S[F]> }
    & { [F in keyof S as S[F] extends Kind ? never : F]?: Optional<S[F]> };

/** Where a message's key stands in it. */
export type KeySource =
    | { tag: "none" }
    | { tag: "subject-token"; val: number }
    | { tag: "header"; val: string }
    | { tag: "payload-field"; val: string };

/** Where a message's key stands in it. */
export const keyFrom: {
    /** The nth token of the subject, from 0: of `accounts.7.debit`, token 1 is `7`. */
    subject(token: number): KeySource;
    header(name: string): KeySource;
    /** A JSON Pointer, such as `/account`. */
    payload(pointer: string): KeySource;
};

/** What a handler wants to get. */
export interface Subscription {
    /** A NATS subject filter, such as `accounts.*.debit`. */
    subject: string;
    /** Messages of one key are handled in order; without a key, in any order. */
    key?: KeySource;
    /** Collections whose document under the message's key costs no query. */
    readAhead?: string[];
}

/** A handler, described by itself; the host holds it to these lists. */
export interface Description {
    /** It must never change: under another name everything would be handled again. */
    name: string;
    version: string;
    subscriptions: Subscription[];
    /** Collections that it may read and change. */
    collections?: string[];
    /** Subject filters that it may publish to. */
    publishes?: string[];
}

/** The component's export. */
export interface Exported {
    describe(): unknown;
    handle(message: unknown): unknown;
}

/** Makes the export of a component, which is called `handler`. */
export function define(
    description: Description,
    handle: (message: Message) => Effects | void,
): Exported;

/** A header line. */
export interface Header {
    name: string;
    value: string;
}

/** A message as it stands in its stream. */
export class Message {
    private constructor();
    /** What it is deduplicated by. */
    readonly id: string;
    readonly subject: string;
    /** What the subscription's `key` picked out of it; there is none without a `key` there. */
    readonly key: string;
    /** Sorted by name. */
    readonly headers: Header[];
    readonly payload: Uint8Array;
    /** When the stream stored it, in milliseconds since the Unix epoch. */
    readonly storedAt: number;
    /** The payload as text. */
    text(): string;
    /** The payload as JSON, whatever it is. What is no JSON is rejected. */
    json(): any;
    /** The payload as JSON of this shape. What is not is rejected. */
    json<const S extends Shape>(shape: S): Of<S>;
    /** The nth token of the subject, from 0. */
    token(n: number): string | undefined;
    /** The last token of the subject, which often says what is to be done. */
    readonly lastToken: string;
    /** The first value of a header. */
    header(name: string): string | undefined;
}

/** The committed state. What is put during the call is not seen. */
export const documents: {
    /** A document, or undefined where there is none. */
    get<T = any>(collection: string, key: string): T | undefined;
    /** `[key, document]` pairs by prefix, after key `after`: at most `limit`, at most 1,000. */
    page<T = any>(
        collection: string,
        prefix: string,
        after?: string | null,
        limit?: number,
    ): [string, T][];
};

/** Settings of this handler: strings by name. */
export const settings: {
    get(name: string): string | undefined;
    /** A number; what is set and is none is the operator's mistake, and so a retry. */
    number(name: string): number | undefined;
    number(name: string, otherwise: number): number;
};

/** How a message is sent. Times are in milliseconds. */
export interface How {
    headers?: { [name: string]: string };
    /** Published so long after the commit. Not together with `at`. */
    after?: number;
    /** Published at this time, since the Unix epoch; at once when it is past. */
    at?: number;
    /** Not published any more when it is this late. */
    expiresAfter?: number;
    /** A later message of this name replaces it; only with `after` or `at`. */
    name?: string;
    /** Over core NATS right after the commit, for who listens now. */
    transient?: boolean;
}

/** All that handling one message does. Nothing happens before the host commits it. */
export class Effects {
    /** Creates a document or replaces it whole. Fields that are undefined are left out. */
    put(collection: string, key: string, body: unknown): this;
    delete(collection: string, key: string): this;
    /** Sends a message: bytes as they are, anything else as JSON. */
    send(subject: string, payload: unknown, how?: How): this;
    /** Takes back the named message that is not yet due. */
    cancel(name: string): this;
}

/** The message can never be handled: it is parked as dead at once. */
export class Reject extends Error {
    readonly tag: "reject";
}

/** The state is not ready for the message yet: it is handed over again later, with backoff. */
export class Retry extends Error {
    readonly tag: "retry";
}

/** UTF-8 of a text. */
export function encode(text: string): Uint8Array;

/** The text of UTF-8 bytes. */
export function decode(bytes: Uint8Array): string;
