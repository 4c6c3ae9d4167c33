"""What garak's REST generator is told; run by its own Python, and imports nothing of ours.

python garak_calls.py URL KEY
"""

import json
import os
import sys

from garak import _config
from garak.attempt import Conversation, Message, Turn

url, os.environ["REST_API_KEY"] = sys.argv[1:]
_config.load_base_config()
from garak.generators.rest import RestGenerator  # noqa: E402  # reads the configuration

ASKED = {
    "completions": ({"prompt": "$INPUT"}, "$.choices[*].text"),
    "chat/completions": ({"messages": [{"role": "user", "content": "$INPUT"}]}, "$.choices[*].message.content"),
}
told = {}
for route, (prompt, field) in ASKED.items():
    _config.plugins.generators["rest"] = {
        "RestGenerator": {
            "name": route,
            "uri": f"{url}/v1/{route}",
            "headers": {"Authorization": "Bearer $KEY"},
            "req_template_json_object": {"model": "kjv", "max_tokens": 5, "temperature": 0, **prompt},
            "response_json": True,
            "response_json_field": field,
        }
    }
    generator = RestGenerator(config_root=_config)
    answers = generator.generate(Conversation([Turn("user", Message("The king said"))]), 2)
    told[route] = [answer.text for answer in answers]
print(json.dumps(told))
