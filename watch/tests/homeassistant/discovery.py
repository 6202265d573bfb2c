#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Checks discovery messages against Home Assistant itself.

Reads lines `TOPIC PAYLOAD`, as `mosquitto_sub -t 'homeassistant/#' -F '%t %p'` writes them, and gives each to
the schemas of the installed package `homeassistant`: that of a device message, and of each component with what
the device message has for all. Exits with 1 if one is refused, 2 if there is nothing to check.

    python3.13 -m venv ha && ha/bin/pip install homeassistant paho-mqtt
    mosquitto_sub -t 'homeassistant/#' --retained-only -W 2 -F '%t %p' | ha/bin/python discovery.py
"""

import asyncio
import importlib
import json
import sys
import tempfile

import voluptuous as vol
from homeassistant.components.mqtt import discovery
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame

COMMON = ["availability", "availability_mode", "state_topic", "command_topic", "qos", "encoding"]


def check(topic, payload):
    """How many components a message has; raises vol.Invalid."""
    prefix, kind, object_id, last = topic.split("/")
    if kind != "device" or last != "config":
        raise vol.Invalid(f"{topic} is not DISCOVERY-PREFIX/device/ID/config")
    message = json.loads(payload)
    # It writes short names out in place, as Home Assistant does first.
    discovery._replace_all_abbreviations(message)
    DEVICE_DISCOVERY_SCHEMA(json.loads(json.dumps(message)))
    unique = set()
    for name, component in message["components"].items():
        platform = component.pop("platform")
        module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        for option in COMMON:
            if option in message and option not in component:
                component[option] = message[option]
        component["device"] = message["device"]
        if component["unique_id"] in unique:
            raise vol.Invalid(f"{name}: its unique_id is there twice")
        unique.add(component["unique_id"])
        try:
            module.DISCOVERY_SCHEMA(component)
        except vol.Invalid as error:
            raise vol.Invalid(f"component {name} ({platform}): {error}") from error
    return len(message["components"])


async def main():
    # Templates are compiled in one that runs.
    frame.async_setup(HomeAssistant(tempfile.mkdtemp()))
    messages = refused = 0
    for line in sys.stdin:
        topic, _, payload = line.strip().partition(" ")
        if not payload:
            continue
        messages += 1
        try:
            print(f"ok      {topic}: {check(topic, payload)} components")
        except vol.Invalid as error:
            refused += 1
            print(f"REFUSED {topic}: {error}")
    print(f"Home Assistant {__version__}: {messages} messages, {refused} refused")
    return 2 if messages == 0 else min(refused, 1)


sys.exit(asyncio.run(main()))
