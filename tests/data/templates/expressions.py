# SPDX-License-Identifier: Apache-2.0
"""The small cases of make.py, in groups: a source, or (source, variables)."""

VARS = {
    "name": "Ada", "n": 7, "f": 2.5, "yes": True, "no": False, "nothing": None, "empty": "",
    "words": ["pear", "Apple", "fig"], "numbers": [3, 1, 2], "nested": [[1, 2], [3, [4, None]]],
    "text": "  two  words\tand more \n", "uni": "Grüße, ŝtono — 猫は🐈です",
    "user": {"name": "Bo", "age": 30, "tags": ["x", "y"], "items": "own", "a b": 1},
    "people": [{"name": "Cy", "city": "Oslo", "age": 9, "ok": True},
               {"name": "Di", "city": "Rome", "age": 7, "ok": False},
               {"name": "ed", "city": "oslo", "age": 8}],
    "html": "<b>\"A\" & 'B'</b>", "big": 1e21, "small": 1.5e-7, "neg": -7,
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
                 {"role": "assistant", "content": "A"}],
}


def shown(*expressions):
    return ["{{ " + e + " }}" for e in expressions]


GROUPS = {
    "literals": shown(
        "1", "1_000", "0x1F", "0o17", "0b101", "1.5", "1e3", "1.5e-3", "2_0.5", "'a'", '"b"', "'it''s'",
        "'a' 'b' \"c\"", "true", "True", "false", "False", "none", "None", "[]", "[1, 'a', 2.0,]", "()",
        "(1,)", "(1, 2)", "1, 2", "1,", "{}", "{'a': 1, 'b': [2], 3: none}", "{'a': 1, 'a': 2}", "[[], {}, ()]",
        "{1: 'i', 1.0: 'f', true: 't'}", "0", "00", "1.0", "-1", "[-1, +2]", "{'a': {'b': {}}}",
        "9223372036854775807", "[true, none, 1.5, 'x']", "(((1)))", "{(1, 2): 'tuple'}"),
    "escapes": shown(
        r"'a\nb'", r"'\t|\\|\'|\"'", r'"\x41\u00e9\U0001F600"', r"'\101\60\0x'|length", r"'\q\%'", r"['\n']",
        r"['\x00\x1b\x7f']", r"['it\'s']", r"['\"both\' quotes']", r"'a\
b'", r"['\u200b\xa0é猫']", r"'\a\b\f\v'|length", r"['\\']", r"'\''", "'two\nlines'") + [
            "{{ 'a\r\nb' }}", "{{ 'é' }}", "{{ '\\N' }}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{{ 'open }}"],
    "arithmetic": shown(
        "1 + 2", "7 - 10", "3 * 4", "7 / 2", "8 / 2", "7 // 2", "-7 // 2", "7 // -2", "7 % 3", "-7 % 3",
        "7 % -3", "-7 % -3", "2 ** 10", "2 ** -1", "2 ** 3 ** 2", "-2 ** 2", "2 ** 0.5", "7.5 // 2", "-7.5 // 2",
        "7.5 % 2", "-7.5 % 2", "7.5 % -2", "0.1 + 0.2", "1 + 2 * 3", "(1 + 2) * 3", "10 - 4 - 3", "100 / 10 / 2",
        "1 + true", "true + true", "-true", "+n", "-f", "- -3", "1e308 * 10", "-(1e308 * 10)", "1 / 3", "0.0 * -1",
        "10 // 3.0", "2 * 3.0", "'ab' * 3", "3 * 'ab'", "'ab' * 0", "'ab' * -1", "[1, 2] * 2", "(1,) * 2",
        "[1] + [2, 3]", "(1,) + (2,)", "'a' + 'b' + 'c'", "1 ~ 2", "'a' ~ 1 ~ none ~ 1.5 ~ [1]", "1 ~ 2 + 3",
        "1 + 2 ~ 3", "2 * 3 ~ 4", "9007199254740993 / 3", "-9 // 4", "5 % 2.5", "1 - 1.0", "n / 2 * 2", "2 ** 62",
        "1 ** 1000", "0 ** 0", "0.0 ** 0", "(-8) ** 3", "12345678901234567 * 10", "-5 % 5", "5.0 // 0.3"),
    "arithmetic_errors": shown(
        "1 / 0", "1 // 0", "1 % 0", "1.0 / 0", "1.5 % 0", "0 ** -1", "'a' + 1", "1 + 'a'", "[1] + (1,)",
        "'a' - 'b'", "none + 1", "-'a'", "+none", "missing + 1", "1 + missing", "'a' + missing", "-missing",
        "missing * 2", "'a' * 'b'", "[1] * 1.5", "{} + {}", "{} * 2", "missing ~ 'x' + missing", "[1] + missing"),
    "floats": shown(
        "1e15", "1e16", "1.5e16", "123456789012345678.0", "0.0001", "0.00001", "1.0", "100.0", "1e100", "5e-324",
        "1.7976931348623157e308", "0.1", "1/3", "2/3", "1e22", "1e21", "12345.678", "-0.0", "big", "small",
        "1e400", "-1e400", "(1e400 - 1e400)", "[1e400]", "3.14159265358979", "1e5", "123e-7"),
    "comparison": shown(
        "1 == 1.0", "1 == true", "'a' == 'a'", "'a' != 'b'", "1 < 2", "2 <= 2", "3 > 2 > 1", "1 < 3 < 2",
        "1 < 2 == true", "'a' < 'b'", "'B' < 'a'", "'é' > 'z'", "[1, 2] < [1, 3]", "[1] < [1, 0]", "(1, 2) >= (1, 2)",
        "[1] == [1.0]", "[1] == (1,)", "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", "none == none", "none == false",
        "0 == false", "'' == none", "missing == missing", "missing == none", "1 in [1, 2]", "3 not in [1, 2]",
        "'a' in 'cat'", "'' in 'x'", "'name' in user", "'Bo' in user", "1 in (2, 1)", "1.0 in [1]", "none in [none]",
        "'x' in missing", "missing in [1]", "2 in range(3)", "not 1 == 2", "not not 1", "1 != 1 or 2 == 2",
        "'猫' in uni", "9223372036854775807 == 9223372036854775807.0", "range(3) == range(0, 3)", "(1, 'a') in [(1, 'a')]",
        "'a' in {'a': none}.keys()", "1 in {'a': 1}.values()", "('a', 1) in {'a': 1}.items()", "{} == {}", "1 is none"),
    "comparison_errors": shown(
        "1 < 'a'", "none < 1", "[1] < (1,)", "{} < {}", "1 in 5", "1 in 'a'", "missing < 1", "1 > missing", "1 in none",
        "[] in {}", "'a' in none", "[1, 'a'] < [1, 2]", "[3]|sort < 4"),
    "logic": shown(
        "1 and 2", "0 and 2", "0 or 'x'", "'' or none", "1 or 2 and 3", "not true and false", "not (true and false)",
        "none and missing.x", "1 or missing.x", "'a' if true else 'b'", "'a' if false else 'b'", "'a' if false",
        "1 if 0 else 2 if 0 else 3", "(1 if yes else 2) + 1", "[1 if yes else 2, 3]", "not missing", "missing or 'd'",
        "[] or {} or ''", "not []", "not {}", "not 0.0", "not ''", "not 'x'", "yes and no or n", "'x' if missing else 'y'",
        "(none if 1 else 2) is none", "1 if 2 if 0 else 3 else 4", "not not missing", "0.0 or 0"),
    "names": shown(
        "name", "missing", "user.name", "user['name']", "user.missing", "user['missing']", "user.tags[0]", "user.tags.1",
        "user.tags[-1]", "user.tags[5]", "words.0", "nested[1][1][0]", "user['a b']", "user.items is callable", "user['items']",
        "messages[0].role", "messages[-1]['content']", "name[0]", "name[-1]", "name[9]", "uni[0]", "uni[2]", "uni[-1]", "n.x",
        "nothing.x", "'a'.x", "user[['a']]", "user[([], 1)]", "words['x']", "words[1.0]", "words[true]", "name.missing", "range(5)[1]",
        "range(5)[-1]", "range(5)[7]", "(1, 2)[1]", "{'a': 1}.a", "{1: 2}[1]", "{1: 2}.x", "{none: 1}[none]", "n['x']"),
    "names_errors": shown(
        "missing.x", "missing['x']", "missing.x.y", "user.missing.x", "user.missing['x']", "words[5].x", "nothing.x.y",
        "missing()", "user.missing()", "name()", "n()", "words.append(4)", "user.pop('name')", "user.update({})",
        "words.sort()", "user.clear()", "words.extend([1])", "user.setdefault('z', 1)", "name.missing()",
        "''.__class__.x", "user.tags[9].y", "missing[0]", "missing[1:]", "nothing[1:]", "user[1:]", "n[0:1]", "none()"),
    "slices": shown(
        "words[1:]", "words[:1]", "words[:-1]", "words[::-1]", "words[::2]", "words[5:]", "words[-2:]", "words[2:1]",
        "name[1:]", "name[::-1]", "name[:-1]", "name[0:2]", "uni[1:4]", "uni[::-1]", "uni[-4:]", "uni[::3]",
        "(1, 2, 3)[1:]", "range(10)[2:5]|list", "range(10)[::-3]|list", "range(10)[2:5]", "words[none:none]",
        "words[1:2:1]", "words[-100:100]", "words[100:-100:-1]", "words[::-2]", "words[1::-1]", "words[-1:0:-1]",
        "''[1:]", "[][::-1]", "messages[1:]|length", "words[true:]", "words[:2][0]", "words[0:2:9999999999]", "uni[3]"),
    "slice_errors": shown("words[::0]", "words['a':]", "name[1.5:]", "words[1:2, 3]", "words[:]['x'].y", "name[missing:]"),
    "printing": shown(
        "[1, 'a', none, true, 1.0]", "{'a': [1], 'b': {'c': none}}", "(1, 'x')", "user", "nested", "[missing]", "missing",
        "range(3)", "range(1, 9, 2)", "{'a': 1}.items()", "{'a': 1}.keys()", "{'a': 1}.values()", "namespace(a=1)",
        "dict(a=1, b='x')", "['a\"b', \"a'b\", 'a\\'\"b']", "[uni]", "[text]", "''", "['']", "none", "[[[]]]", "{'k': missing}",
        "-0.0", "true", "[big, small]", "{1.5: 'x', none: 1}", "dict({'a': 1}, b=2)", "dict([('a', 1), ['b', 2]])", "{}.items()",
        "['é', '\\u3000', '\\ue000', '\\U0001F408']"),
    "tests": shown(
        "missing is defined", "name is defined", "missing is undefined", "user.x is defined", "nothing is none",
        "nothing is defined", "missing is none", "name is string", "n is string", "n is number", "f is number",
        "yes is number", "n is integer", "yes is integer", "f is float", "n is float", "yes is boolean", "n is boolean",
        "yes is true", "no is false", "n is true", "1 is true", "user is mapping", "words is mapping", "words is sequence",
        "name is sequence", "user is sequence", "n is sequence", "words is iterable", "name is iterable", "n is iterable",
        "missing is iterable", "missing is sequence", "range(3) is sequence", "range(3) is iterable", "3 is odd", "4 is even",
        "-3 is odd", "-0.5 is odd", "2.5 is even", "9 is divisibleby 3", "9 is divisibleby(4)", "1 is eq 1", "1 is ne 2", "1 is lt 2", "2 is gt 1",
        "2 is ge 2", "2 is le 1", "1 is equalto 1", "1 is lessthan 2", "2 is greaterthan 1", "1 is in [1, 2]",
        "'a' is in 'cat'", "1 is not in [2]", "name is not none", "name is not defined", "not name is defined",
        "range is callable", "name is callable", "'abc' is lower", "'ABC' is upper", "'aB1' is lower", "'a1' is lower",
        "'1' is lower", "none is sameas none", "1 is sameas 1.0", "words is sameas words", "'upper' is filter",
        "'nope' is filter", "'odd' is test", "html|safe is escaped", "html is escaped", "f is even", "1 is odd and 2 is even",
        "name is string and name", "user.name is defined and user.name", "[1] is eq [1]", "(1, 2) is sequence",
        "user.items() is sequence", "user.items() is iterable", "user.items() is mapping", "2.5 is divisibleby 0.5",
        "(words|map('upper')) is sequence", "n is number or missing.x", "'é' is lower", "'' is string", "namespace() is mapping",
        "1 is sameas true", "missing is callable", "missing is mapping", "missing is string", "5 is in range(9)"),
    "test_errors": shown(
        "missing is odd", "'a' is odd", "none is even", "1 is nope", "1 is divisibleby", "1 is divisibleby 0", "1 is lt 'a'",
        "1 is odd is even", "1 is in 1", "1 is defined(1)", "missing.x is defined", "none is gt 1") + [
            "{% if yes %}{{ 1 is nope }}{% endif %}", "{% if no %}{{ 1 is nope }}{% else %}ok{% endif %}"],
    "filters_text": shown(
        "text|trim", "'xxaxx'|trim('x')", "name|upper", "name|lower", "'HELLO wORLD foo-bar 1st (paren'|title",
        "\"it's a dog's life\"|title", "'hELLO world'|capitalize", "uni|upper", "uni|lower", "uni|title", "uni|capitalize",
        "'a-b-c'|replace('-', '+')", "'a-b-c'|replace('-', '+', 1)", "'abc'|replace('', '.')", "123|replace(2, 'x')", "n|string",
        "none|string", "[1]|string", "html|e", "html|escape", "html|safe", "html|e|e", "html|safe|e", "html|forceescape",
        "(html|safe) + '<i>'", "'<i>' + (html|e)", "(html|e) ~ '<i>'", "html|striptags", "'a <!-- c --> b\n\n c &amp; d'|striptags",
        "'%s is %d'|format('x', 5)", "'%(a)s'|format(a=1)", "'a b  c_d e-f 3'|wordcount", "uni|wordcount", "'ab'|center(7)",
        "'abc'|center(6)", "'ab'|center(5)|length", "'foo bar baz qux'|truncate(9)", "'foo bar baz qux'|truncate(9, true)",
        "'foo bar baz qux'|truncate(11)", "'foo bar baz qux'|truncate(11, false, '...', 0)", "'short'|truncate",
        "('x' * 300)|truncate|length", "'a b/c?d=é&f'|urlencode", "{'a b': 'c&d', 'e': 1}|urlencode", "[('a', '/')]|urlencode",
        "5|urlencode", "'a\nb\n\nc'|indent", "'a\nb\n\nc'|indent(2, true)", "'a\nb\n\nc'|indent(2, blank=true)",
        "'a\nb'|indent('> ')", "'a\nb\n'|indent", "'ß ŉ ﬁ'|upper", "'ΑΣ ΣΑΣ, Σ'|lower", "'İ'|lower|length", "5|upper", "none|upper",
        "missing|upper", "missing|trim", "true|lower", "'x'|default('y')|upper|lower", "-5|abs", "'ab'|upper|list",
        "''|title", "'a'|indent(0)", "''|wordcount", "'x <y z'|striptags", "'ǆ'|capitalize"),
    "filters_number": shown(
        "'42'|int", "'42'|int(1, 'a')", "'42.9'|int", "'x'|int", "'x'|int(7)", "'0x1A'|int(0, 16)", "'101'|int(base=2)", "'1_000'|int", "' 12 '|int",
        "3.9|int", "-3.9|int", "none|int", "[]|int(5)", "true|int", "'1e3'|int", "'-5'|int", "'+5'|int", "''|int", "'1.5'|float",
        "'x'|float", "'x'|float(1.5)", "3|float", "none|float", "'inf'|float", "' -1.5e3 '|float", "'1_0.5'|float", "'.5'|float", "'5.'|float",
        "-5|abs", "-5.5|abs", "true|abs", "42.55|round", "42.55|round(1)", "42.55|round(1, 'floor')", "42.51|round(1, 'ceil')", "2.5|round",
        "3.5|round", "0.5|round", "-2.5|round", "2.675|round(2)", "42|round", "1234.5|round(-2)", "1250|round(-2)", "1350|round(-2)",
        "-1250|round(-2)", "42|round(1, 'floor')", "42.55|round|int", "1e300|round(2)", "'0b11'|int(0, 0)", "'zz'|int(0, 36)", "'9' * 18|int",
        "'nan'|float", "'infinity'|float|int(3)", "'inf'|int(4)", "'12abc'|int(9)", "5|round(2)", "12.3456|round(3, 'common')"),
    "number_errors": shown("missing|int", "missing|float", "missing|abs", "'a'|abs", "'a'|round", "1.5|round(1, 'up')", "none|abs",
                           "(1e400)|int", "none|round", "missing|round", "1.5|round('a')"),
    "filters_sequence": shown(
        "words|length", "name|length", "uni|length", "user|length", "missing|length", "range(5)|length", "words|count", "words|first",
        "words|last", "name|first", "name|last", "user|first", "[]|first", "[]|last", "missing|last", "missing|reverse|list", "[[1, 2], [3]]|truncate", "''|first", "range(5)|last", "name|list", "user|list",
        "range(3)|list", "missing|list", "words|join", "words|join(', ')", "[1, none, 2.0, 'a']|join('-')", "people|join(', ', attribute='name')",
        "name|join('.')", "missing|join(',')", "user|join(',')", "words|join(5)", "missing|default('d')", "missing|default", "''|default('d')",
        "''|default('d', true)", "none|default('d')", "none|d('d', boolean=true)", "user.x|default('d')", "0|default(5, true)", "words|sort",
        "words|sort(reverse=true)", "words|sort(case_sensitive=true)", "numbers|sort", "people|sort(attribute='age')|map(attribute='name')|list",
        "people|sort(attribute='city,age')|map(attribute='name')|join", "[[2, 'a'], [1, 'b']]|sort(attribute=0)", "user.items()|sort|first",
        "words|reverse|list", "name|reverse", "uni|reverse", "numbers|reverse|first", "['a', 'A', 'b', 'a']|unique|list",
        "['a', 'A', 'b', 'a']|unique(case_sensitive=true)|list", "people|unique(attribute='city')|map(attribute='name')|list", "[1, 1.0, true, 2]|unique|list",
        "numbers|min", "numbers|max", "words|min", "words|max", "words|max(case_sensitive=true)", "people|min(attribute='age')", "[]|min", "[]|max",
        "['b', 'B', 'a', 'A']|min", "numbers|sum", "[]|sum", "[1, 2.5]|sum", "people|sum(attribute='age')", "numbers|sum(start=10)", "[[1], [2]]|sum(start=[])",
        "words|batch(2)|list", "words|batch(2, 'x')|list", "range(7)|slice(3)|list", "range(7)|slice(3, 'x')|list", "[]|slice(2)|list", "[]|batch(2)|list",
        "user|items|list", "missing|items|list", "user|dictsort", "{'b': 1, 'A': 2}|dictsort", "{'b': 1, 'A': 2}|dictsort(true)",
        "{'b': 1, 'a': 2}|dictsort(by='value')", "{'b': 1, 'a': 2}|dictsort(reverse=true)", "people|groupby('city')|length", "people|groupby('city')|map(attribute='grouper')|list",
        "people|groupby('city', case_sensitive=true)|map('first')|list", "people|groupby('ok', default=0)|map(attribute=0)|list", "[1, 3, 2]|sort(true)", "range(3)|reverse|list",
        "user|attr('name')", "user|attr('x')", "'a'|attr('upper')()", "words|list|length", "user|reverse|list", "['b','a']|sort|join|upper", "{'a': 1}|list|first",
        "[(1, 'b'), (1, 'a')]|sort", "['é', 'z', 'a']|sort", "[true, false]|sort", "words|map('length')|list", "''|list"),
    "filters_select": shown(
        "words|map('upper')|list", "words|map('replace', 'p', 'q')|list", "words|map('default', 'x')|join", "people|map(attribute='name')|list", "people|map(attribute='ok')|list",
        "people|map(attribute='ok', default='?')|list", "[{'a': {'b': 1}}]|map(attribute='a.b')|list", "[[1, 2], [3, 4]]|map(attribute=1)|list", "[[1, [2]]]|map(attribute='1.0')|list",
        "numbers|select('odd')|list", "numbers|reject('odd')|list", "[0, 1, '', 'a']|select|list", "[0, 1, '', 'a']|reject|list", "numbers|select('gt', 1)|list", "numbers|select('>', 1)|list",
        "numbers|select('divisibleby', 2)|list", "people|selectattr('ok')|map(attribute='name')|list", "people|rejectattr('ok')|map(attribute='name')|list",
        "people|selectattr('name', 'equalto', 'Cy')|list|length", "people|selectattr('age', 'lt', 9)|map(attribute='name')|join('+')", "people|rejectattr('age', 'in', [7, 8])|map(attribute='name')|join",
        "people|selectattr('ok', 'defined')|list|length", "people|selectattr('ok', 'undefined')|map(attribute='name')|first", "messages|selectattr('role', '==', 'user')|list",
        "messages|rejectattr('role', 'equalto', 'system')|map(attribute='content')|list", "missing|map('upper')|list", "missing|select|list", "name|map('upper')|join", "user|map('upper')|list",
        "(messages|selectattr('role', 'eq', 'user')|list)[0].content", "messages|selectattr('role', 'eq', 'tool')|list|length > 0", "words|select('string')|map('length')|sum",
        "words|map('upper')|first", "words|select('in', ['fig'])|list", "numbers|map('string')|join(',')", "[[3, 1], [2]]|map('sort')|list", "people|map('length')|list", "words|map('first')|join",
        "numbers|select('==', 1)|list", "[1, 'a', none]|select('none')|list", "[[1, 2]]|map('join', '-')|list", "words|map('truncate', 3, true, '')|list", "user.items()|map('first')|list"),
    "filter_errors": shown(
        "name|nope", "nope|nope", "words|map('nope')|list", "words|map|list", "words|map(attribute='a', x=1)|list", "words|select('nope')|list", "words|selectattr|list", "n|length", "none|length",
        "n|first", "none|list", "n|join", "[1, 'a']|sort", "[1, none]|max", "['a', 1]|min", "['a']|sum", "words|length(1)", "words|join(bad=1)", "words|join(',', d='x')", "n|dictsort", "user|dictsort(by='x')",
        "words|items|list", "none|items|list", "(words|map('upper'))|length", "(words|map('upper'))|last", "[[]]|unique|list", "n|sort", "[{}]|sort", "words|map('upper', 1)|list", "'x'|truncate(1)",
        "none|sort", "5|reverse", "missing|truncate(-1)", "words|slice(0)|list", "'a'|replace('b')", "'%d'|format('x')", "'%s %s'|format(1)", "'%s'|format(1, a=2)", "'a'|indent(none)", "words|batch|list",
        "5|indent", "missing|dictsort", "none|e|nope") + [
            "{{ x|nope if false else 'fine' }}", "{{ 'fine' if true else x|nope }}", "{{ x|nope if true else 'fine' }}", "{% if false %}{{ x|nope }}{% endif %}ok",
            "{% if true %}{% for i in [] %}{{ x|nope }}{% endfor %}{% endif %}", "{% macro m() %}{{ x|nope }}{% endmacro %}ok", "{{ [x|nope, 1 if yes else 2] }}",
            "{% if false %}a{% elif x|nope %}b{% endif %}"],
    "tojson": shown(
        "user|tojson", "nested|tojson", "[1, 1.0, 1e21, 1.5e-7, -0.0]|tojson", "uni|tojson", "html|tojson", "'a\"b\\\\c\n\t\r'|tojson", "'\\x00\\x1f\\x7f\\b\\f'|tojson", "uni|tojson(ensure_ascii=true)",
        "uni|tojson(true)", "user|tojson(indent=2)", "user|tojson(indent=4)", "user|tojson(indent='--')", "[]|tojson(indent=2)", "{}|tojson(indent=2)", "[[], {}]|tojson(indent=1)", "user|tojson(separators=(',', ':'))",
        "user|tojson(indent=2, separators=(', ', ' : '))", "{'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true)", "{1: 'i', 1.5: 'f', none: 'n', true: 't'}|tojson", "(1, 2)|tojson", "none|tojson", "true|tojson",
        "[1e400, -1e400]|tojson", "(1e400 - 1e400)|tojson", "''|tojson", "'</script>&'|tojson", "nested|tojson(indent=0)", "{'a': [1, {'b': 2}]}|tojson(indent=2)", "'\\u2028'|tojson", "html|safe|tojson", "user|tojson|length",
        "[none, [none]]|tojson(false, 1)"),
    "tojson_errors": shown("missing|tojson", "[missing]|tojson", "{(1, 2): 3}|tojson", "range(3)|tojson", "namespace()|tojson", "{'a': 1}.items()|tojson", "user|tojson(nope=1)", "{1: 1, 'a': 2}|tojson(sort_keys=true)",
                           "(words|map('upper'))|tojson", "user.get|tojson"),
    "string_methods": shown(
        "text.strip()", "'xxaxx'.strip('x')", "'xyaxy'.lstrip('xy')", "'xyaxy'.rstrip('yx')", "text.split()", "text.split(none, 1)", "text.rsplit(none, 1)", "'a,b,,c'.split(',')", "'a,b,,c'.split(',', 1)",
        "'a,b,,c'.rsplit(',', 1)", "'a,b,,c'.split(',', maxsplit=2)", "'a--b--c'.split('--')", "''.split()", "''.split(',')", "'abc'.split('abc')", "'aXbXc'.rsplit('X')", "'a</think>b</think>c'.split('</think>')[-1]",
        "'a</think>b'.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')", "name.startswith('A')", "name.startswith(('X', 'A'))", "name.endswith('a')", "name.endswith(('x', 'da'))", "name.startswith('d', 1)",
        "name.startswith('d', 1, 2)", "name.endswith('')", "name.startswith('', 9)", "name.replace('a', 'o')", "'aaa'.replace('a', 'b', 2)", "'abc'.replace('', '-')", "'abc'.replace('', '-', 2)", "'aaa'.replace('aa', 'b')",
        "name.upper()", "name.lower()", "'hello wORLD it\\'s 3rd'.title()", "'hELLO'.capitalize()", "'aB'.swapcase()", "uni.upper()", "uni.lower()", "'abcabc'.find('c')", "'abcabc'.find('c', 3)", "'abcabc'.find('x')",
        "'abcabc'.rfind('c')", "'abcabc'.find('c', -1)", "'abcabc'.find('a', 1, 3)", "uni.find('猫')", "uni.rfind('す')", "uni.find('')", "'abc'.index('b')", "'abcabc'.rindex('a')", "'banana'.count('a')", "'banana'.count('ana')",
        "'abc'.count('')", "uni.count('🐈')", "'banana'.count('a', 2)", "', '.join(words)", "''.join(['a', 'b'])", "'-'.join('abc')", "','.join([])", "','.join(user)", "'{} {}'.format(1, 'x')", "'{1} {0}'.format(1, 'x')",
        "'{a} {b[0]} {b.1}'.format(a=1, b=['x', 'y'])", "'{{}} {}'.format(5)", "'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')", "'{:05d} {:+d} {:,}'.format(42, 7, 1234567)", "'{:.2f} {:8.3f} {:e}'.format(3.14159, 2.5, 12345.678)",
        "'{:x} {:X} {:b} {:o} {:#x}'.format(255, 255, 5, 8, 255)", "'{!r} {!s}'.format('a', 'a')", "'{:*^9}'.format('mid')", "'{:.3}'.format('abcdef')", "'{:%} {:.1%}'.format(0.25, 0.5)", "'{:g} {:g}'.format(1e10, 0.1)",
        "'{} {}'.format(none, true)", "'{:{}}|'.format('a', 4)", "'{:d}'.format(true)", "'{0[name]}'.format(user)", "'{:,.2f}'.format(1234567.891)", "'{:_}'.format(1234567)", "'{:>+6.1f}'.format(-2.25)", "'{:}'.format(1.0)", "'{:6}|'.format(1.5)", "'{:6}|'.format(3)",
        "'a\nb\r\nc\rd'.splitlines()", "'a\nb\n'.splitlines()", "'a\nb\n'.splitlines(true)", "''.splitlines()", "'\n'.splitlines()", "'TestHook'.removeprefix('Test')", "'x'.removeprefix('y')", "'MiscTests'.removesuffix('Tests')",
        "'123'.isdigit()", "'12a'.isdigit()", "''.isdigit()", "'²'.isdigit()", "'½'.isnumeric()", "'٣'.isdecimal()", "'abc'.isalpha()", "'é猫'.isalpha()", "'a1'.isalnum()", "' \t'.isspace()", "''.isspace()", "'abc'.islower()", "'ABC'.isupper()",
        "'Ab Cd'.istitle()", "'aé'.isascii()", "'a\\n'.isprintable()", "'ab'.center(7, '*')", "'abc'.center(6)", "'ab'.ljust(4, '.')", "'ab'.rjust(4)", "'42'.zfill(5)", "'-42'.zfill(5)", "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')",
        "'abc'.partition('=')", "'abc'.rpartition('=')", "'a\tb\t'.expandtabs(4)", "'Straße'.casefold()", "'ﬃx'.title()", "name.upper().lower().title()", "'猫'.center(4, '犬')", "'a b'.split(' ')[1]", "'x'.join(name)", "' a '.strip().upper()", "'aé'.ljust(4) ~ '|'"),
    "string_method_errors": shown(
        "name.split('')", "name.nope()", "''.join([1])", "','.join(5)", "'{} {}'.format(1)", "'{x}'.format(1)", "'{'.format(1)", "'}'.format(1)", "'{:d}'.format('a')", "'{:.2f}'.format('x')", "name.index('zz')", "name.startswith(1)",
        "name.replace('a')", "name.replace(1, 2)", "name.strip(1)", "name.center()", "name.center(5, 'ab')", "'{} {0}'.format(1)", "'{:q}'.format(1)", "name.upper(1)", "name.zfill('x')", "'{:5}'.format([1])", "'{:s}'.format(5)", "name.partition('')", "name.count()"),
    "percent": shown(
        "'%s' % 'a'", "'%s %s' % ('a', 1)", "'%d' % 5", "'%d' % 5.9", "'%5d|%-5d|%05d' % (1, 2, 3)", "'%+d % d' % (1, 2)", "'%x %X %o %#x %#o' % (255, 255, 8, 255, 8)", "'%f %.2f %8.3f %e' % (1.5, 2.345, 3.14159, 12345.678)",
        "'%g %g %G' % (1e10, 0.5, 1e-10)", "'%c%c' % ('a', 98)", "'%r %s' % ('a', 'a')", "'100%%' % ()", "'%(a)s-%(b)d' % {'a': 'x', 'b': 2}", "'%.2s|%5s|%-5s|' % ('abc', 'a', 'b')", "'%s' % none", "'%s' % [1, 2]", "'%s' % missing", "'%*d' % (5, 3)",
        "'%.*f' % (2, 1.239)", "'%s' % (1,)", "'%i' % true", "'abc' % {}", "'abc' % []", "'%5%|' % ()", "'%s' % {'a': 1}", "'%06.2f|%+.1e' % (3.14159, 12345.0)", "'%5s|' % '猫'", "'%.3d' % 5", "'%s%%' % 50", "'%s' % 1.0", "'%d items' % words|length") ,
    "percent_errors": shown("'%d' % 'a'", "'%s %s' % 'a'", "'%s' % ('a', 'b')", "'abc' % 1", "'%' % ()", "'%q' % 1", "'%x' % 1.5", "'%(a)s' % 1", "'%(a)s' % {}", "'%c' % 'ab'", "'%f' % 'x'", "'%d' % missing", "'%(a' % {}", "'%d' % none"),
    "collections": shown(
        "user.items()|list", "user.keys()|list", "user.values()|list|length", "user.get('name')", "user.get('x')", "user.get('x', 'd')", "user.get('x') is none", "{'a': 1}.get('a', 2)", "words.index('fig')", "words.count('fig')", "(1, 2, 1).count(1)",
        "(1, 2).index(2)", "user.copy() == user", "words.copy()", "dict(user, name='Z').name", "{'items': 5}.items is callable", "{'items': 5}['items']", "{'get': 5}.get is callable", "dict(**{'a': 1})", "dict(a=1)['a']", "words.index('pear', 0)", "f.is_integer()", "2.0.is_integer()",
        "[1, [2, [3]]][1][1][0]", "{'a': {'b': [10, 20]}}.a.b[1]", "words|length + 1", "(words + ['kiwi'])|length", "user.keys()|join(',')", "user.items()|length", "[*words]"),
    "collection_errors": shown("words.index('zz')", "user.get()", "words.count()", "words.nope", "words.nope()", "dict(1)", "dict([1])", "dict([(1,2,3)])", "dict(1, 2)", "{[]: 1}", "{{}: 1}", "user.items(1)", "{'a': 1}[[]].x", "words.insert(0, 1)", "{}.popitem()"),
    "calls": shown(
        "range(3)|list", "range(1, 4)|list", "range(4, 1, -1)|list", "range(0)|list", "range(5, 1)|list", "range(0, 10, 3)|list", "range(stop=1)", "range(*[1, 4])|list", "dict(**{'a': 1}, **{})", "namespace(a=1).a", "namespace({'a': 1}, b=2).b", "namespace(a=1).x",
        "cycler('a', 'b').next()", "joiner('|')()", "'{}{}'.format(*[1, 2])", "'{a}'.format(**{'a': 5})", "range(3).x", "strftime_now('%Y')|length", "strftime_now('%d %b %Y')|length", "strftime_now('')", "strftime_now('100%%')", "strftime_now('%Y-%m-%d') == strftime_now('%F')",
        "range is callable", "range(100000)|length", "range(true)|list", "range(-3, 3)|sum", "user.get(key='name')"),
    "call_errors": shown(
        "raise_exception('Boom: ' ~ n)", "raise_exception(n)", "raise_exception()", "range()", "range(1, 2, 0)", "range('a')", "range(1.5)", "range(100001)", "range(10000000000)", "range(none)", "range(missing)", "dict(a=1, a=2)", "dict(**1)", "dict(*5)", "range(1, a=2)", "nope()", "cycler()",
        "raise_exception(message='m')", "range(1, 2, 3, 4)", "namespace(1)", "strftime_now()", "strftime_now(1)", "f(a=1, 2)", "f(**a, b)", "f(*a, *b)", "f(1,, 2)", "f(,)"),
    "if": [
        "{% if yes %}a{% endif %}", "{% if no %}a{% else %}b{% endif %}", "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% elif yes %}c{% endif %}", "{% if no %}a{% endif %}", "{% if missing %}a{% else %}b{% endif %}",
        "{% if user.x is defined %}a{% elif user.name %}{{ user.name }}{% endif %}", "{% if yes %}{% if no %}a{% else %}b{% endif %}{% endif %}", "{% if 1, 2 %}t{% endif %}", "{% if yes: %}colon{% endif %}", "{% if (yes and\n   n) %}lines{% endif %}",
        "{% if words %}{% set x = 5 %}{% endif %}{{ x }}", "{% if not words|length > 2 %}a{% else %}b{% endif %}", "{% if 'a' 'b' == 'ab' %}y{% endif %}", "{% if yes %}{% else %}{% endif %}|"],
    "for": [
        "{% for w in words %}{{ w }},{% endfor %}", "{% for w in [] %}x{% else %}none{% endfor %}", "{% for w in words %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.length }} {% endfor %}",
        "{% for w in words %}{{ loop.first }}{{ loop.last }} {% endfor %}", "{% for k, v in user.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in user %}{{ k }} {% endfor %}", "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }} {% endfor %}",
        "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for c in name %}{{ c }}.{% endfor %}", "{% for x in numbers if x > 1 %}{{ x }}:{{ loop.index }}/{{ loop.length }} {% endfor %}", "{% for x in numbers if x > 9 %}{{ x }}{% else %}none{% endfor %}",
        "{% for w in words %}{{ loop.previtem }}<{{ w }}>{{ loop.nextitem }} {% endfor %}", "{% for w in words %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}", "{% for w in words %}{{ loop.cycle('odd', 'even') }} {% endfor %}",
        "{% for w in ['a', 'a', 'b'] %}{{ loop.changed(w) }} {% endfor %}", "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for i in range(10) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "{% for i in range(5) %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in [1] %}{% break %}{% else %}else{% endfor %}|", "{% for a in [1, 2] %}{% for b in [1, 2, 3] %}{% if b == 2 %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}{% endfor %}",
        "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% for i in [1] %}{% set y = 1 %}{% endfor %}{{ y }}", "{% for i in [1, 2] %}{{ i }}{% endfor %}{{ i }}", "{% set i = 9 %}{% for i in [1, 2] %}{{ i }}{% endfor %}{{ i }}", "{% for i in missing %}x{% else %}e{% endfor %}",
        "{% for m in messages[1:] %}{{ m.role }}{{ m.content }}{% endfor %}", "{% for m in messages|reverse %}{{ m.role }} {% endfor %}", "{% for x in words|map('upper') %}{{ loop.length }}{{ loop.last }}{{ x }} {% endfor %}", "{% for m in messages %}{{ messages[loop.index0 - 1].role }} {% endfor %}",
        "{% for item in [1, [2, [3]]] recursive %}{% if item is iterable %}({{ loop(item) }}){% else %}{{ item }}@{{ loop.depth }}{% endif %} {% endfor %}", "{% for k, v in user|dictsort %}{{ k }} {% endfor %}", "{% for x in {'a': 1} %}{{ x }}{% endfor %}", "{% for x in range(3) if x is odd %}{{ x }}{% endfor %}",
        "{% for x, in [[1], [2]] %}{{ x }}{% endfor %}", "{% for c in uni %}[{{ c }}]{% endfor %}", "{% for a in words %}{% for b in words if b != a %}{{ a[0] }}{{ b[0] }} {% endfor %}{% endfor %}", "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% for x in (1, 2,) %}{{ x }}{% endfor %}",
        "{% for loopy in [1] %}{{ loop.index }}{% endfor %}", "{% for p in people %}{{ p.name }}{{ ', ' if not loop.last }}{% endfor %}", "{% for i in [1,2] %}{{ loop }}{% endfor %}", "{% for g in people|groupby('city') %}{{ g.grouper }}:{{ g.list|length }} {% endfor %}",
        "{% for city, list in people|groupby('city') %}{{ city }}:{{ list|map(attribute='name')|join }} {% endfor %}", "{% for i in [1, 2] %}{% set x %}{{ loop.index }}{% endset %}{{ x }}{% endfor %}", "{% for i in [1, 2] %}{% if loop.last %}{% set q = i %}{% endif %}{{ q }}{% endfor %}"],
    "for_errors": [
        "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for x in words %}", "{% for in words %}{% endfor %}", "{% for x words %}{% endfor %}", "{% for x in %}{% endfor %}",
        "{% endfor %}", "{% for x in words %}{% endif %}", "{% break %}", "{% for x in [1] %}{{ loop([2]) }}{% endfor %}", "{% for x in [1] %}{{ loop.cycle() }}{% endfor %}", "{{ loop.index }}", "{% for true in [1] %}{% endfor %}", "{% for x in [1] %}{{ loop.nope.x }}{% endfor %}",
        "{% for x.y in [1] %}{% endfor %}", "{% for x in [1] if missing.y %}{% endfor %}", "a\nb\n{% for x in [1] %}\n{{ x.y.z }}{% endfor %}"],
    "set": [
        "{% set x = 1 %}{{ x }}", "{% set x = 1 %}{% set x = x + 1 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ b }}{{ a }}", "{% set (a, b) = [1, 2] %}{{ a + b }}", "{% set a = 1, 2 %}{{ a }}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}",
        "{% set x | upper | replace('A', '-') %}abc{% endset %}{{ x }}", "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a = 5 %}{{ ns.a }}{{ ns }}", "{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}",
        "{% set x %}{% set y = 5 %}{{ y }}{% endset %}{{ x }}{{ y }}", "{% set name = 'Q' %}{{ name }}", "{% set x = missing %}{{ x is defined }}", "{% set range = 5 %}{{ range }}", "{% set ns = namespace(a=1, b=2) %}{% set ns.a, ns.b = ns.b, ns.a %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(t='') %}{% for w in words %}{% set ns.t = ns.t + w %}{% endfor %}{{ ns.t }}",
        "{% set ns = namespace(f=false) %}{% for m in messages %}{% if m.role == 'user' and not ns.f %}{% set ns.f = true %}{{ m.content }}{% endif %}{% endfor %}{{ ns.f }}", "{% set ns = namespace() %}{{ ns.x is defined }}", "{% set x = 'a' if yes else 'b' %}{{ x }}", "{% set ns = namespace(x=1) %}{{ ns['x'] }}", "{% set ns = namespace() %}{% set ns.x %}block{% endset %}{{ ns.x }}",
        "{% set s = 'a' %}{% set t = s + 'b' %}{% set u = s + 'c' %}{{ s }}{{ t }}{{ u }}", "{% set s = 'x' * 200 %}{% set t = s + 'b' %}{% set u = t + 'c' %}{% set v = t + 'd' %}{{ u[-2:] }}{{ v[-2:] }}{{ u|length }}"],
    "set_errors": ["{% set x %}", "{% set 1 = 2 %}", "{% set x = %}", "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set user.name = 1 %}", "{% set missing.x = 1 %}", "{% set none = 1 %}", "{% set x[0] = 1 %}", "{% set x = 1 2 %}", "{% set ns = namespace(x=1) %}{{ ns.y.z }}", "{% set = 1 %}", "{% set x | nope %}a{% endset %}"],
    "macro": [
        "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=1, a=0) }}", "{% macro m() %}x{% endmacro %}{{ m() }}{{ m()|upper }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(4) }}",
        "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ a }}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro fact(k) %}{% if k < 2 %}1{% else %}{{ k * (fact(k - 1)|int) }}{% endif %}{% endmacro %}{{ fact(10) }}",
        "{% macro m() %}{{ name }}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}", "{% macro m() %}{% set name = 'in' %}{{ name }}{% endmacro %}{{ m() }}{{ name }}", "{% macro m(x) %}[{{ caller() }}|{{ x }}]{% endmacro %}{% call m(1) %}body{% endcall %}",
        "{% macro m() %}{% for i in [1, 2] %}{{ caller(i, 'k') }}{% endfor %}{% endmacro %}{% call(a, b) m() %}<{{ a }}{{ b }}>{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}a{% endmacro %}{{ m }}", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is callable }}",
        "{% macro show(d, depth=0) %}{% for k, v in d.items() %}{{ '  ' * depth }}{{ k }}:{% if v is mapping %}\n{{ show(v, depth + 1) }}{% else %} {{ v }}\n{% endif %}{% endfor %}{% endmacro %}{{ show({'a': 1, 'b': {'c': 2, 'd': {'e': 3}}}) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'a': 2}) }}",
        "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m(x) %}{% if x %}{{ m(false) }}{% endif %}{{ x }}{% endmacro %}{{ m(true) }}", "{% macro m() -%}\n  padded\n{%- endmacro %}[{{ m() }}]", "{% set f = namespace() %}{% macro m() %}{% set f.x = 1 %}{% endmacro %}{{ m() }}{{ f.x }}",
        "{% macro m(a='d') %}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}{{ m(missing) }}", "{% macro m(a, b) %}{% endmacro %}{{ m.name }}{{ m.arguments }}", "{% macro outer() %}{% macro inner(x) %}({{ x }}){% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}", "{{ m() if m is defined else 'no' }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ [1, 2]|map('string')|map('upper')|join(m(',')) }}",
        "{% macro m(caller) %}{{ caller() }}{% endmacro %}", "{% macro m(caller=none) %}{{ caller() }}{% endmacro %}{% call m() %}explicit{% endcall %}", "{% for i in [1, 2] %}{% continue %}{% else %}e{% endfor %}", "{% macro m() %}{{ kwargs.get('a', 'none') }}{% endmacro %}{{ m() }}{{ m(a=1) }}"],
    "macro_errors": [
        "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro %}{% endmacro %}", "{% macro m %}{% endmacro %}", "{% macro m() %}", "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", "{% call m() %}x{% endcall %}",
        "{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% call 5 %}{% endcall %}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "{% for i in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m(1) %}{% endcall %}",
        "{% macro a() %}{{ caller() }}{% endmacro %}{% macro b() %}{% call a() %}{{ caller() }}{% endcall %}{% endmacro %}{% call b() %}x{% endcall %}"],
    "blocks": [
        "{% filter upper %}abc{{ name }}{% endfilter %}", "{% filter upper|replace('A', 'x') %}abc{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter trim %}  {% set q = 1 %}a {% endfilter %}{{ q }}", "{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x }}", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}",
        "{% with x = 5 %}{% with x = 6, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}{% endwith %}", "{% raw %}{{ not }} {% if %} {# x #}{% endraw %}", "{% raw -%}  a  {%- endraw %}b", "a{# comment #}b", "a {#- strip -#} b", "{# multi\nline #}x", "{% generation %}a{{ n }}{% endgeneration %}", "{% generation %}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% print 1, 'a' %}", "{% print(name) %}", "{% with a, b = (1, 2) %}{{ a }}{{ b }}{% endwith %}", "{% raw %}\n{% endraw %}\nx", "  {% raw %}  a\n  {% endraw %}  b", "{% filter replace('a', 'b') %}{% filter upper %}xa{% endfilter %}a{% endfilter %}"],
    "block_errors": [
        "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% nope %}", "{% endif %}", "{% if %}{% endif %}", "{% if x %}", "{% if x %}{% endfor %}", "{% else %}", "{{ }}", "{{", "{{ x", "{% if x", "{% %}", "{# open", "{% raw %}x", "{{ x }", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ {1 }}", "{{ {1: } }}", "{{ 1) }}", "{{ x. }}", "{{ x.'a' }}",
        "{{ x[ }}", "{{ x | }}", "{{ x is }}", "{{ not }}", "{{ a b }}", "{{ 'a }}", "{{ 1 2 }}", "{{ @ }}", "{{ a ? b }}", "{{ a ! b }}", "{{ $x }}", "{{ a if }}", "{% do x %}", "{% set %}", "{% filter %}{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% generation %}x", "\n\n{{ missing.x }}", "{% if yes %}\n{{ 1/0 }}\n{% endif %}", "a\n{{ 'x\ny' }}\n{% nope %}",
        "{{ a == }}", "{{ a and }}", "{{ *a }}", "{{ a ** }}", "{% with x %}{% endwith %}", "{% elif x %}", "{{ x[1:2:3:4] }}", "{{ a = 1 }}", "{{ 1.2.3 }}", "{{ &a }}", "{{ a[] }}", "{{ {'a'} }}", "{% 5 %}", "{{ ~1 }}", "{{ if }}", "{{ x is not }}", "{{ (1, 2 }}"],
    "whitespace": [
        "a\n{% if yes %}\nb\n{% endif %}\nc\n", "a\n  {% if yes %}\n  b\n  {% endif %}\nc", "  {{ n }}  \n  x", "a {%- if yes %} b {% endif -%} c", "a {{- n -}} b", "a  \n {%- if yes -%} \n b \n {%- endif %} \nc", "a\n  {%+ if yes %}b{% endif %}", "{% if yes +%}\nb{% endif %}", "{% if yes %} \nb{% endif %}", "{# c #}\nx", "  {# c #}\n  x", "  {#+ c #}x",
        "  {# c +#}\nx", "x {#- c -#}\n\n y", "\n", "\n\n", "a\n", "a\n\n", "", " ", "a\r\nb\rc\n", "{% if yes %}\r\nb{% endif %}\r\n", "{{ n }}\n", "{{ n }}\n\n", "{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}{{ y }}", "\t{% if yes %}\tx\t{% endif %}\t", "x{% if yes %}\n{% endif %}y", "{%- if yes -%}\n\n x \n\n{%- endif -%}\n\n y", "a\n\n  {%- if yes %}b{% endif %}",
        "{% for w in words %}\n    {{ w }}\n{% endfor %}\n", "{% for w in words -%}\n    {{ w }}\n{%- endfor %}", "{{'a'}}{{'b'}} {{'c'}}", "{{-1}}", "{{ -1 }}", "{{- -1 }}", "{{+1}}", "a{{ n }}}", "{{ {'a': 1}['a'] }}", "{{{'a': 1}.a}}", "{ { % } }", "{%if yes%}x{%endif%}", "{%   if   yes   %}x{%   endif   %}", "a\u00a0{%- if yes %}b{% endif %}", "   {% set x = 1 %}   \n y",
        "  {{ n }}{% if yes %}\n  z{% endif %}", "l1\n   {% set x=1 %}{% set y=2 %}\nl3", "{% raw %}\n\n  a\n{% endraw %}\n\nb", "{%- raw -%}\n a \n{%- endraw -%}\n b", "{% if yes %}a{% endif %}\n\n\n", "{{ '\n' }}\n", "a{% if yes -%}\n\n  b{% endif %}", "\n  {{- n }}", "{#- -#} a", "{#-#}", "{##}x", "a\n {#- c #}\nb", "a\x0b{%- if yes %}b{% endif %}"],
    "unicode": shown(
        "uni", "uni|length", "uni[3:8]", "uni.split(' ')", "uni|list|length", "'é'|length", "'🐈'|length", "'猫' * 3", "uni|tojson", "[uni]", "'ÀÉ'.lower()", "'àé'.upper()", "'ǅ'.title()", "'Ω'|lower", "uni|reverse", "uni.replace('猫', '犬')", "'%s' % uni", "'{:>4}|'.format('猫')",
        "'ñ' ~ 'ö'", "'e\u0301'|length", "uni|upper|lower", "uni|center(30)", "uni|truncate(10, true)", "'　a　'|trim", "'\u2003a\u2003'.strip()", "['猫', '犬']|sort", "'🐈' < '猫'", "'ﬀ'.upper()", "uni|urlencode", "'ｆｕｌｌ'|upper", "'Ж'.lower()", "'ı'.upper()") + [
            "{% set größe = 5 %}{{ größe }}", "{{ {'ключ': 'значение'}.ключ }}", "猫{% if yes %}🐈{% endif %}犬", "{{ '猫'}}{# 犬 #}é"],
    "streams": [
        "{% set x = words|map('upper') %}{{ x|list }}{{ x|list }}", "{% set x = words|select %}{{ x|first }}{{ x|first }}{{ x|list }}", "{{ (words|map('upper'))|join(',') }}", "{% set x = words|map('upper') %}{% for a in x %}{{ a }}{% endfor %}{% for a in x %}{{ a }}{% else %}empty{% endfor %}", "{{ words|map('upper')|map('lower')|list }}",
        "{{ words|reverse|map('upper')|list }}", "{{ 'FIG' in words|map('upper') }}", "{{ words|batch(2)|map('join', '+')|list }}", "{% if words|map('upper') %}true{% endif %}", "{{ ([]|map('upper')) and 'truthy' }}", "{% set x = {'a': 1}.items() %}{{ x|list }}{{ x|list }}", "{{ range(3)|map('string')|join }}"],
    "globals": [
        "{% set c = cycler('a', 'b', 'c') %}{% for i in range(5) %}{{ c.next() }}{% endfor %}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner() %}{% for w in words %}{{ j() }}{{ w }}{% endfor %}", "{% set ns = namespace(i=0) %}{% for x in range(5) %}{% set ns.i = ns.i + x %}{% endfor %}{{ ns.i }}",
        ("{{ range }}", {"range": 5}), ("{{ a.b.c }}", {"a": {"b": {"c": "deep"}}}), ("{{ x }}", {"x": [1.0, 2, "3", None, True, {"k": []}]}), ("{{ x|tojson }}", {"x": {"z": 1, "a": [1.5, None, False], "ü": "ß"}}), ("{{ i }} {{ i + 1 }}", {"i": -9007199254740993}), ("{{ s|length }}", {"s": "a\u0000b"}),
        ("{{ s }}", {"s": "x\u0001\u007fy"}), ("{{ [s] }}", {"s": "x\u0001\u007fy"}), ("{{ f }}", {"f": 1e-10}), ("{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}", {"d": {"z": 1, "y": 2, "a": 3, "m": 4, "b": 5, "q": 6, "r": 7, "s": 8, "t": 9, "u": 10}}), ("{{ d.r }}{{ d.zz }}", {"d": {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}})],
}
