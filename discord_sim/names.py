"""The words people and places are named with."""

# The names are data; some are odd on purpose, because real ones are.

GUILD_NAMES = (
    "Pixel Foundry", "The Lofi Lounge", "Mechanical Keyboards", "Rustaceans Anonymous", "Night Owls Gaming",
    "Sourdough & Friends", "Speedrun Central", "Cozy Crossing", "Retro Handhelds", "Tabletop Tavern",
    "Homelab Heroes", "Indie Dev Guild", "Plant Parents", "Astro Backyard", "Synthwave Study Hall",
    "Code & Coffee", "Valley Farmers", "Ramen Republic", "The Book Nook", "Chess After Dark",
    "Trail Runners United", "Anime Avenue", "Minecraft Masons", "Photography Den", "Data Hoarders Hideout",
    "Language Exchange Café", "Formula Fanatics", "Dungeon Delvers", "Open Source Garage", "Vinyl Collectors",
)  # fmt: skip
GUILD_FIRST = (
    "Amber", "Arctic", "Brass", "Cobalt", "Copper", "Cosmic", "Crimson", "Drifting", "Electric",
    "Emerald", "Frosty", "Gentle", "Golden", "Hidden", "Hollow", "Iron", "Jade", "Lunar", "Mellow",
    "Midnight", "Neon", "Nimble", "Northern", "Paper", "Quiet", "Radiant", "Rusty", "Sapphire",
    "Silent", "Silver", "Solar", "Stormy", "Sunny", "Turbo", "Velvet", "Wandering", "Wild", "Winter",
)  # fmt: skip
GUILD_SECOND = (
    "Academy", "Alliance", "Arcade", "Armada", "Bakery", "Bandits", "Basement", "Cartographers",
    "Collective", "Crew", "Den", "Diner", "Explorers", "Foxes", "Garage", "Gardeners", "Grove",
    "Harbor", "Hangout", "Keep", "Lab", "Legion", "Library", "Lighthouse", "Makers", "Nomads",
    "Observatory", "Otters", "Outpost", "Pirates", "Raiders", "Ravens", "Rookies", "Scribes", "Squad",
    "Studio", "Syndicate", "Tinkerers", "Union", "Workshop",
)  # fmt: skip
CHANNELS = (
    ("general", "Whatever comes to mind"),
    ("introductions", "Say hello, tell us who you are"),
    ("off-topic", "Everything else"),
    ("memes", "Keep it friendly"),
    ("help", "Ask away, someone knows"),
    ("showcase", "Show what you made"),
    ("looking-for-group", "Find people to play with"),
    ("music", "What are you listening to?"),
    ("pets", "Pictures or it did not happen"),
    ("food", "Cooking, baking, eating"),
    ("clips-and-highlights", "Your best moments"),
    ("tech-talk", "Hardware, software, everything between"),
    ("movies-and-tv", "Spoilers in spoiler tags"),
    ("events", "What is on this week"),
    ("feedback", "What should we change?"),
)
ROLE_NAMES = (
    ("Veteran", 0xE67E22), ("Regular", 0x2ECC71), ("Artist", 0xE91E63), ("Event Crew", 0x3498DB),
    ("Early Bird", 0xF1C40F), ("Helper", 0x1ABC9C), ("Night Shift", 0x9B59B6),
)  # fmt: skip
FIRST_NAMES = (
    "Aiko", "Alex", "Amara", "Anders", "Anya", "Ari", "Bea", "Ben", "Bruno", "Camila", "Chen", "Chloe",
    "Dani", "Diego", "Elif", "Elena", "Emeka", "Ezra", "Fatima", "Felix", "Finn", "Freya", "Gabe",
    "Hana", "Hugo", "Ines", "Ivan", "Jae", "Jamal", "Jonas", "Jules", "Kai", "Kenji", "Lara", "Leo",
    "Lina", "Luca", "Maja", "Marco", "Mei", "Mila", "Nadia", "Nico", "Noor", "Oleg", "Olivia", "Omar",
    "Oskar", "Paula", "Pia", "Priya", "Quinn", "Rafa", "Remy", "Rosa", "Sam", "Sana", "Sofia", "Stella",
    "Tariq", "Theo", "Tomas", "Uma", "Vera", "Wren", "Yara", "Yusuf", "Zoe",
)  # fmt: skip
HANDLE_FIRST = (
    "atomic", "binary", "blue", "bored", "caffeinated", "captain", "cosmic", "crispy", "dapper",
    "dizzy", "dusty", "fuzzy", "ghost", "glitchy", "grumpy", "happy", "hyper", "jazzy", "laggy", "lazy",
    "lost", "lucky", "mossy", "neon", "night", "noisy", "pixel", "quantum", "rainy", "rogue", "salty",
    "sleepy", "sneaky", "spicy", "turbo", "wobbly",
)  # fmt: skip
HANDLE_SECOND = (
    "badger", "bagel", "beetle", "biscuit", "cactus", "comet", "crow", "dumpling", "falcon", "ferret",
    "fox", "goblin", "hamster", "heron", "kraken", "lemon", "lynx", "mango", "moth", "muffin",
    "narwhal", "newt", "noodle", "otter", "panda", "parrot", "pickle", "pixel", "potato", "raccoon",
    "raven", "salmon", "sloth", "teapot", "toast", "turnip", "walrus", "wizard", "wombat", "yak",
)  # fmt: skip
ODD_DISPLAY_NAMES = (
    "<b>Bobby</b>",  # whoever shows names as HTML will show it
    "✨ luna ✨",
    "𝕯𝖆𝖗𝖐 𝕶𝖓𝖎𝖌𝖍𝖙",
    "まりも",
    "Zoë 🦊",
    "Żółty Żuk",
    "محمد",
    "ᴛɪɴʏ ᴄᴀᴘs",
    "🏳️‍🌈 Robin",
    "Ünal ☕",
    "김민수",
    "Ň̶o̷t̵ ̶a̸ ̴G̷h̶o̴s̵t̸",
    "O'Brien; DROP TABLE users",
    "👩‍🚀 Captain",
    "Нина",
    "a very long display name ok :)",
)
PEOPLE = {
    "owner": ("Olive Owner", "Owns 12 servers, may do everything"),
    "admin": ("Adrian Admin", "Administrator in 8 servers"),
    "moderator": ("Mona Moderator", "Sees what moderators may see"),
    "viewer": ("Vic Viewer", "Sees what viewers may see"),
    "outsider": ("Otto Outsider", "Has no role here, sees nothing"),
}
