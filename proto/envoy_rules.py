"""The `validate.rules` of the API (options of protoc-gen-validate) as the C tables of envoy_api_index.h.

What the API uses, by a scan of its descriptors (xds-protos 1.85):

    numbers    lt, lte, gt, gte (float, double, int32, int64, uint32, uint64; also inside wrappers)
    bool       const (always true)
    string     min_len, max_len, max_bytes, prefix, suffix, pattern, in, well_known_regex with strict, ignore_empty
    bytes      min_len, max_len
    enum       defined_only, not_in
    message    required, skip
    repeated   min_items, max_items, unique, items
    map        min_pairs, keys, values
    any        required
    duration   required, lt, lte, gt, gte
    oneof      required

It has no const of numbers or texts, len, min_bytes, contains, not_contains, address forms (email, ip, uri, uuid, ...),
no_sparse, timestamp rules, `in` of numbers, and no message that is `disabled` or `ignored`. A rule that is not known
here stops the build: none is dropped in silence. `defined_only` needs no row, as the encoder writes no number that its
enum does not have.

Scalars are checked where they are left out, too: they have their zero then. Those in a oneof (or `optional`) and
wrappers are checked only where they are set. This is how the validator that Envoy compiles from these options works.
"""

import pathlib
import re

from google.protobuf.descriptor import FieldDescriptor as FD
from validate import validate_pb2

UNSIGNED = {FD.CPPTYPE_UINT32, FD.CPPTYPE_UINT64}
REAL = {FD.CPPTYPE_FLOAT, FD.CPPTYPE_DOUBLE}
BOUNDS = ("lt", "lte", "gt", "gte")
BOUNDED = ("float", "double", "int32", "int64", "uint32", "uint64", "duration")
ORDER = re.findall(r"ENVOY_API_(\w+)", (pathlib.Path(__file__).parent / "envoy_api_index.h").read_text().split("};")[0])
WORTH_NOTHING = {"defined_only"}


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def value_field(field):
    """The field that a scalar rule speaks of: inside a wrapper, the one that is wrapped."""
    wrapped = field.message_type
    if wrapped is not None and wrapped.file.name == "google/protobuf/wrappers.proto":
        return wrapped.fields[0]
    return field


def c_string(text):
    """As a C literal; octal escapes, which end after three digits."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode()) + '"'


class Table:
    """Collects C definitions. Equal lists of checks are one array."""

    def __init__(self):
        self.lines = []
        self.arrays = {}
        self.patterns = []

    def array(self, prefix, declaration, body):
        key = (declaration, body)
        if key not in self.arrays:
            self.arrays[key] = f"{prefix}_{len(self.arrays)}"
            self.lines.append(f"static {declaration} {self.arrays[key]}[] = {{{body}}};")
        return self.arrays[key]

    def checks(self, checks):
        checks = sorted(checks, key=lambda check: ORDER.index(check[0]))
        body = ", ".join(f"{{ENVOY_API_{kind}, {{{at}}}}}" for kind, at, _ in checks) + ", {ENVOY_API_END, {0}}"
        return self.array("checks", "const struct envoy_api_check", body)


def refuse(where, rule):
    raise SystemExit(f"{where}: the rule {rule} is not known to proto/envoy_rules.py and the encoder")


def bound(where, field, kind, value):
    """(kind, initialiser, does zero pass)"""
    if field.message_type is not None:
        if field.message_type.full_name != "google.protobuf.Duration":
            refuse(where, kind)
        value = value.seconds * 10**9 + value.nanos
        if abs(value) >= 2**63 - 1:  # the encoder clamps what is longer to the ends
            refuse(where, f"{kind} {value} ns")
        member = "i"
    else:
        member = "d" if field.cpp_type in REAL else "u" if field.cpp_type in UNSIGNED else "i"
    text = repr(value) if member == "d" else f"{value}{'U' if member == 'u' else ''}LL"
    passes = {"lt": value > 0, "lte": value >= 0, "gt": value < 0, "gte": value <= 0}[kind]
    return kind.upper(), f".{member} = {text}", passes


def string_check(table, where, rules, name, value):
    text = c_string(value) if isinstance(value, str) else ""
    if name in ("min_len", "max_len", "min_bytes", "max_bytes"):
        return name.upper(), f".u = {value}", not (name.startswith("min") and value)
    if name in ("prefix", "suffix"):
        return name.upper(), f".text = {text}", not value
    if name == "in":
        items = table.array("list", "const char *const", ", ".join(c_string(item) for item in value) + ", NULL")
        return "IN", f".list = {items}", "" in value
    if name == "pattern":
        if not (value.startswith("^") and value.endswith("$")):
            refuse(where, f"pattern {value} that is not anchored")
        if value not in table.patterns:
            table.patterns.append(value)
        return "PATTERN", f".u = {table.patterns.index(value)}", None
    if name == "well_known_regex":
        known = validate_pb2.KnownRegex.Name(value)
        if known not in ("HTTP_HEADER_NAME", "HTTP_HEADER_VALUE"):
            refuse(where, known)
        kind = known.removeprefix("HTTP_") if rules.strict else "HEADER_TEXT"
        return kind, "0", kind != "HEADER_NAME"
    return refuse(where, f"string.{name}")


def checks_of(table, where, field, rules):
    """The checks [(kind, initialiser, does the zero pass)] of a FieldRules message."""
    out = []
    if rules.HasField("message"):
        for option, value in rules.message.ListFields():
            if option.name not in ("required", "skip"):
                refuse(where, f"message.{option.name}")
            if value:
                out.append((option.name.upper(), "0", option.name == "skip"))
    kind = rules.WhichOneof("type")
    if kind is None:
        return out
    of_kind = getattr(rules, kind)
    target = value_field(field)
    for option, value in of_kind.ListFields():
        name = option.name
        if name in WORTH_NOTHING or (name == "strict" and kind == "string"):
            continue
        if kind in ("duration", "any") and name == "required":
            if value:
                out.append(("REQUIRED", "0", False))
            if kind == "any" and target.message_type.full_name != "google.protobuf.Any":
                out.append(("SKIP", "0", True))  # the validator does not go into it then
        elif name in BOUNDS and kind in BOUNDED:
            out.append(bound(where, target, name, value))
        elif kind == "bool" and name == "const" and value:
            out.append(("TRUE", "0", False))
        elif kind == "enum" and name == "not_in":
            out += [("ENUM_NOT_IN", f".i = {number}", number != 0) for number in value]
        elif kind == "string" and name == "ignore_empty":
            if value:
                out.append(("IGNORE_EMPTY", "0", True))
        elif kind == "string":
            out.append(string_check(table, where, of_kind, name, value))
        elif kind == "bytes" and name in ("min_len", "max_len"):
            out.append((name.upper().replace("LEN", "BYTES"), f".u = {value}", not (name == "min_len" and value)))
        elif kind == "repeated" and name in ("min_items", "max_items"):
            out.append((name.upper(), f".u = {value}", not (name == "min_items" and value)))
        elif kind == "repeated" and name == "unique":
            if value:
                if field.message_type is not None:
                    refuse(where, "unique of messages")
                out.append(("UNIQUE", "0", True))
        elif kind == "map" and name == "min_pairs":
            out.append(("MIN_PAIRS", f".u = {value}", not value))
        elif (kind == "repeated" and name == "items") or (kind == "map" and name in ("keys", "values")):
            inner = field
            if kind == "map":
                inner = field.message_type.fields_by_name["key" if name == "keys" else "value"]
            below = checks_of(table, f"{where} ({name})", inner, value)
            if any(check[0] in ("REQUIRED", "SKIP") for check in below):
                refuse(where, f"{name} with rules of a message")
            if below:
                out.append((name.upper(), f".checks = {table.checks(below)}", True))
        else:
            refuse(where, f"{kind}.{name}")
    bounds = [check for check in out if check[0].lower() in BOUNDS]
    if len(bounds) == 2:
        value = {check[0][0]: getattr(of_kind, check[0].lower()) for check in bounds}
        if kind == "duration":
            value = {side: d.seconds * 10**9 + d.nanos for side, d in value.items()}
        if value["G"] >= value["L"]:  # what lies between is meant to be excluded
            out = [check for check in out if check not in bounds]
            out.append(("EITHER", f".checks = {table.checks(bounds)}", any(check[2] for check in bounds)))
    return out


def breaks_when_absent(field, checks):
    """Whether leaving the field out breaks a rule of its own. None: only the encoder's RE2 can say (a pattern)."""
    kinds = {check[0] for check in checks}
    if field.containing_oneof is not None:
        return False
    if field.message_type is not None and not field.is_repeated:
        return "REQUIRED" in kinds
    if field.has_presence or "IGNORE_EMPTY" in kinds:
        return False
    return any(check[2] is not True for check in checks)


def message_rules(table, message, descriptor_fields):
    """The name of the message's struct envoy_api_rules, or None. `descriptor_fields`: in protobuf-c's order."""
    options = message.GetOptions()
    for name in ("disabled", "ignored"):
        if options.HasExtension(getattr(validate_pb2, name)):
            refuse(message.full_name, name)
    of_field, wanted = [], []
    for index, field in enumerate(descriptor_fields):
        found = []
        if field.GetOptions().HasExtension(validate_pb2.rules):
            rules = field.GetOptions().Extensions[validate_pb2.rules]
            found = checks_of(table, field.full_name, field, rules)
        of_field.append(table.checks(found) if found else "NULL")
        if breaks_when_absent(field, found):
            wanted.append(index)
    oneofs = [
        (oneof.name, descriptor_fields.index(oneof.fields[0]))
        for oneof in message.oneofs
        if oneof.GetOptions().Extensions[validate_pb2.required]
    ]
    if not oneofs and all(name == "NULL" for name in of_field):
        return None
    fields = table.array("fields", "const struct envoy_api_check *const", ", ".join(of_field) or "NULL")
    absent = table.array("wanted", "const uint16_t", ", ".join(map(str, wanted)) or "0")
    names = table.array(
        "oneofs", "const struct envoy_api_oneof", ", ".join(f'{{"{n}", {i}}}' for n, i in oneofs) or "{NULL, 0}"
    )
    body = f"{{{fields}, {absent}, {len(wanted)}, {names}, {len(oneofs)}}}"
    name = f"rules_{len(table.lines)}"
    table.lines.append(f"static const struct envoy_api_rules {name} = {body};  /* {message.full_name} */")
    return name


def generate(messages):
    """(C definitions, {full name: initialiser of the rules}) of the messages."""
    table = Table()
    rules = {}
    for message in messages:
        fields = sorted(message.fields, key=lambda field: field.number)
        name = message_rules(table, message, fields)
        rules[message.full_name] = f"&{name}" if name else "NULL"
    patterns = ", ".join(c_string(p) for p in table.patterns)
    table.lines.append(f"const char *const envoy_api_patterns[] = {{{patterns}}};")
    table.lines.append(f"const size_t envoy_api_patterns_len = {len(table.patterns)};")
    return table.lines, rules
