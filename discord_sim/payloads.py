"""The JSON that Discord sends for users, guilds, members, channels and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .protocol import Intents
from .snowflake import iso, timestamp_ms

if TYPE_CHECKING:
    from .messages import Message
    from .world import Channel, Guild, Member, Role, User, World

_APPLICATION_FLAGS = 1 << 12 | 1 << 14 | 1 << 18  # presence, members and message content are allowed
_TEXT, _CATEGORY = 0, 4


def user(who: User) -> dict[str, Any]:
    """Return a user."""
    payload: dict[str, Any] = {
        "id": str(who.id),
        "username": who.username,
        "global_name": who.global_name,
        "discriminator": "0000" if who.bot else "0",
        "avatar": None,
        "avatar_decoration_data": None,
        "public_flags": 0,
    }
    if who.bot:
        payload["bot"] = True
    return payload


def self_user(who: User, *, email: bool = False) -> dict[str, Any]:
    """Return a user as they see themselves."""
    payload = user(who) | {
        "flags": 0,
        "banner": None,
        "accent_color": None,
        "locale": "en-US",
        "mfa_enabled": not who.bot,
        "premium_type": 0,
        "verified": True,
    }
    if email:
        payload["email"] = f"{who.username}@example.com"
    return payload


def application(world: World) -> dict[str, Any]:
    """Return the bot's application."""
    return {
        "id": str(world.application_id),
        "name": world.bot.username,
        "icon": None,
        "description": "A bot of the local Discord.",
        "summary": "",
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "owner": user(world.people["owner"]),
        "team": None,
        "flags": _APPLICATION_FLAGS,
        "redirect_uris": [],
        "approximate_guild_count": len(world.guilds),
        "bot": user(world.bot),
    }


def member(who: Member, *, with_user: bool = True) -> dict[str, Any]:
    """Return a member; messages carry it without its user."""
    payload: dict[str, Any] = {
        "nick": who.nick,
        "avatar": None,
        "banner": None,
        "roles": [str(role_id) for role_id in who.role_ids],
        "joined_at": iso(who.joined_at_ms),
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": None,
    }
    if with_user:
        payload["user"] = user(who.user)
    return payload


def role(what: Role) -> dict[str, Any]:
    """Return a role."""
    payload: dict[str, Any] = {
        "id": str(what.id),
        "name": what.name,
        "permissions": str(what.permissions),
        "position": what.position,
        "color": what.color,
        "colors": {"primary_color": what.color, "secondary_color": None, "tertiary_color": None},
        "hoist": what.color != 0,
        "managed": what.bot_id is not None,
        "mentionable": False,
        "icon": None,
        "unicode_emoji": None,
        "flags": 0,
    }
    if what.bot_id is not None:
        payload["tags"] = {"bot_id": str(what.bot_id)}
    return payload


def channel(what: Channel, *, with_guild: bool = True) -> dict[str, Any]:
    """Return a channel; inside a guild it stands without the guild's id."""
    payload: dict[str, Any] = {
        "id": str(what.id),
        "type": _CATEGORY if what.is_category else _TEXT,
        "name": what.name,
        "position": what.position,
        "permission_overwrites": [],
        "flags": 0,
    }
    if not what.is_category:
        payload |= {
            "topic": what.topic,
            "nsfw": False,
            "parent_id": None if what.parent_id is None else str(what.parent_id),
            "rate_limit_per_user": 0,
            "last_message_id": None,
            "last_pin_timestamp": None,
        }
    if with_guild:
        payload["guild_id"] = str(what.guild_id)
    return payload


def guild(what: Guild) -> dict[str, Any]:
    """Return a guild as REST gives it."""
    general = str(what.text_channels[0].id) if what.text_channels else None
    return {
        "id": str(what.id),
        "name": what.name,
        "icon": None,
        "description": None,
        "splash": None,
        "discovery_splash": None,
        "banner": None,
        "owner_id": str(what.owner_id),
        "application_id": None,
        "region": "deprecated",
        "afk_channel_id": None,
        "afk_timeout": 300,
        "system_channel_id": general,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "public_updates_channel_id": None,
        "safety_alerts_channel_id": None,
        "widget_enabled": False,
        "widget_channel_id": None,
        "verification_level": 1,
        "default_message_notifications": 1,
        "explicit_content_filter": 0,
        "mfa_level": 0,
        "nsfw": False,
        "nsfw_level": 0,
        "roles": [role(each) for each in what.roles.values()],
        "emojis": [],
        "stickers": [],
        "features": [],
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "premium_progress_bar_enabled": False,
        "preferred_locale": "en-US",
        "vanity_url_code": None,
        "max_presences": None,
        "max_members": 500_000,
        "max_video_channel_users": 25,
        "max_stage_video_channel_users": 50,
        "hub_type": None,
        "latest_onboarding_question_id": None,
        "incidents_data": None,
    }


def guild_create(what: Guild, bot_id: int, intents: int, large_threshold: int) -> dict[str, Any]:
    """Return the `d` of GUILD_CREATE.

    Discord lists members only for sessions with the presence intent; the others find just themselves there.
    """
    if intents & Intents.GUILD_PRESENCES:
        shown = list(what.members.values())[:large_threshold]
    else:
        shown = [what.members[bot_id]]
    return guild(what) | {
        "unavailable": False,
        "joined_at": iso(what.members[bot_id].joined_at_ms),
        "large": len(what.members) > large_threshold,
        "member_count": len(what.members),
        "members": [member(each) for each in shown],
        "channels": [channel(each, with_guild=False) for each in what.channels],
        "threads": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def message(what: Message, world: World, *, for_gateway: bool = False) -> dict[str, Any]:
    """Return a message; the gateway's form also names the guild and the author's member."""
    members = world.guilds[what.guild_id].members
    mentions = []
    for user_id in what.mention_ids:
        mentioned = user(world.users[user_id])
        if for_gateway and user_id in members:
            mentioned["member"] = member(members[user_id], with_user=False)
        mentions.append(mentioned)
    payload: dict[str, Any] = {
        "id": str(what.id),
        "type": 0,
        "channel_id": str(what.channel_id),
        "author": user(world.users[what.author_id]),
        "content": what.content,
        "timestamp": iso(timestamp_ms(what.id)),
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": what.mention_everyone,
        "mentions": mentions,
        "mention_roles": [],
        "attachments": [],
        "embeds": what.embeds,
        "components": [],
        "pinned": False,
        "flags": 0,
    }
    if what.nonce is not None:
        payload["nonce"] = what.nonce
    if what.reference is not None:
        payload |= {"type": 19, "message_reference": what.reference}
    if for_gateway:
        payload |= {"guild_id": str(what.guild_id), "channel_type": _TEXT}
        if what.author_id in members:
            payload["member"] = member(members[what.author_id], with_user=False)
    return payload
