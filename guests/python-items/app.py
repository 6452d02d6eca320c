"""Creates items and tells everybody. It is small: change it into a handler of your own."""

from dataclasses import dataclass
from typing import Optional

import tribox
from tribox import Effects, Message, Reject, Subscription, documents


@dataclass
class CreateItem:
    """`items.create`."""

    name: str
    id: Optional[str] = None  # without one, the message's id is the item's


@dataclass
class Item:
    """Document `items/<id>`, and the payload of `items.created`."""

    id: str
    name: str


class Handler(tribox.Handler):
    description = tribox.Description(
        name="items",
        version="0.1.0",
        subscriptions=[Subscription("items.create")],
        collections=["items"],
        publishes=["items.created"],
    )

    def decide(self, message: Message) -> Effects:
        create = message.json(CreateItem)
        item = Item(create.id or message.id, create.name)
        there = documents.get("items", item.id, Item)
        if there is not None:
            raise Reject(f"item {item.id} is there already: {there.name}")

        effects = Effects()
        effects.put("items", item.id, item)
        effects.send("items.created", item)
        return effects
