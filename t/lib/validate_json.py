# Validates JSON texts by a JSON Schema.
#
#   python3 validate_json.py schema < texts
#
# The texts end with a NUL each.  Prints a line for each that is not as the
# schema says: its number, counted from 0, the path and the reason; and exits
# with 1 if the schema itself is no schema.

import json
import sys

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match


def unique(pairs):
    members = dict(pairs)

    if len(members) != len(pairs):
        raise ValueError('a member comes twice')

    return members


with open(sys.argv[1], encoding='utf-8') as file:
    schema = json.load(file, object_pairs_hook=unique)

Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)

for n, text in enumerate(sys.stdin.buffer.read().split(b'\0')[:-1]):
    try:
        error = best_match(validator.iter_errors(
            json.loads(text.decode('utf-8'), object_pairs_hook=unique)))
    except ValueError as exception:
        error = exception

    if error is not None:
        path = '.'.join(map(str, getattr(error, 'absolute_path', ['-'])))
        reason = getattr(error, 'message', str(error))
        print(n, path or '.', json.dumps(reason))
