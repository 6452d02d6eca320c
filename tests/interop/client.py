"""Somebody else's client of the streams that tribox works on: nats-py.

    client.py URL publish       publishes commands for an account, and prints what the stream said
    client.py URL consume N     reads N events by a consumer of its own, and prints them

One JSON object a line.
"""

import asyncio
import json
import sys

import nats

CLOUD_EVENT = {"ce-specversion": "1.0", "ce-source": "shop", "ce-id": "42", "X-Note": "caf\u00e9"}

# What is published: subject, headers, payload.
COMMANDS = [
    # An id, twice: the stream itself drops the second one.
    ("accounts.7.credit", {"Nats-Msg-Id": "credit-1"}, b'{"amount": 500}'),
    ("accounts.7.credit", {"Nats-Msg-Id": "credit-1"}, b'{"amount": 500}'),
    # No id: two messages, though they are the same.
    ("accounts.7.debit", None, b'{"amount": 10}'),
    ("accounts.7.debit", None, b'{"amount": 10}'),
    # A CloudEvent, twice: the stream keeps both, tribox handles one.
    ("accounts.7.debit", CLOUD_EVENT, b'{"amount": 100}'),
    ("accounts.7.debit", CLOUD_EVENT, b'{"amount": 100}'),
    # Bytes that no handler of JSON can read.
    ("accounts.7.debit", {"Nats-Msg-Id": "binary"}, bytes(range(256))),
    # Text beyond ASCII in payload and header.
    (
        "accounts.8.credit",
        {"Nats-Msg-Id": "credit-2", "X-Note": "caf\u00e9"},
        '{"amount": 1, "note": "\u20ac"}'.encode(),
    ),
]


def show(**fields):
    print(json.dumps(fields), flush=True)


async def publish(jetstream):
    for subject, headers, payload in COMMANDS:
        ack = await jetstream.publish(subject, payload, headers=headers)
        show(subject=subject, stream=ack.stream, sequence=ack.seq, duplicate=bool(ack.duplicate))


async def consume(jetstream, count):
    consumer = await jetstream.pull_subscribe("accounts.events.>", durable="interop", stream="EVENTS")
    while count > 0:
        for message in await consumer.fetch(batch=count, timeout=20):
            body = json.loads(message.data)
            show(subject=message.subject, headers=message.headers, body=body)
            await message.ack()
            count -= 1


async def main():
    url, command, *rest = sys.argv[1:]
    client = await nats.connect(url, allow_reconnect=False)
    jetstream = client.jetstream()
    if command == "publish":
        await publish(jetstream)
    else:
        await consume(jetstream, int(rest[0]))
    await client.close()


asyncio.run(main())
