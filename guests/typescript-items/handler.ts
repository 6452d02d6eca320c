// Creates items and tells everybody. It is small: change it into a handler of your own.

import { define, type Description, documents, Effects, Reject } from "./tribox.js";

interface Item {
    id: string;
    name: string;
}

const description: Description = {
    name: "items",
    version: "0.1.0",
    subscriptions: [{ subject: "items.create" }],
    collections: ["items"],
    publishes: ["items.created"],
};

export const handler = define(description, (message) => {
    // Without an id of its own, the item has that of the message.
    const { id, name } = message.json({ id: "string?", name: "string" });
    const item: Item = { id: id ?? message.id, name };
    const there = documents.get<Item>("items", item.id);
    if (there !== undefined) throw new Reject(`item ${item.id} is there already: ${there.name}`);

    const effects = new Effects();
    effects.put("items", item.id, item);
    effects.send("items.created", item);
    return effects;
});
