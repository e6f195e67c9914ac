#!/usr/bin/env python3
"""The checkout is tidy, and each rule of tidy.py finds what it is there for.

Writes the test.xml that test.sh counts, so that a check which could not run is
named there as skipped.
"""

import os
import sys
import tempfile
import xml.etree.ElementTree as ET

# Bazel links to the sources: the links lead to the checkout itself.
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import tidy  # noqa: E402

BODY = '  Work();\n' * tidy.FUNCTION_LINES_MAX + '}\n'
# Each is one function, too long by its signature and closing brace.
LONG_FUNCTIONS = (
    'int Long() {\n' + BODY,
    'int Wrapped(int first,\n            int second) {\n' + BODY,
    'Long::Long(int a)\n    : a_(a),\n      b_{a} {\n' + BODY,
    'template <typename T>\nT Long(T a)\n  requires(sizeof(T) > 1)\n{\n' + BODY,
    'class A {\n public:\n  void Wrapped(\n      int first) const {\n' +
    BODY.replace('}', '  }') + '};\n',
    'void Braces(const char* text = "}") {\n  Put(\'}\');  // }\n' + BODY,
)
# No function is too long here.
SHORT = ('namespace a {\n' +
         'int F(int a,\n      int b) {\n  return a;\n}\n' * 40 +
         '}\nconst int kTable[] = {\n' + '    Entry(1),\n' * 80 + '};\n'
         'struct A {\n' + '  int F() { return 0; }\n' * 80 + '};\n')
FIX = 'TO' + 'DO'

# Of each rule files that break it, each once, and what is to be said of them.
BREACHES = {
    'sizes': [('long.h', '// A header.\n' * (tidy.HEADER_LINES_MAX + 1),
               'at most')],
    'functions': [('long.cc', text, 'a function of')
                  for text in LONG_FUNCTIONS],
    'openings': [('silent.h', '#ifndef SILENT_H_\n', 'does not open')],
    'includes': [('angled.cc', '#include <gtest/gtest.h>\n', 'quote it')],
    'channels': [('proxied.cc', '// A channel.\nauto a = grpc::' + name + '(b, c);\n',
                  'NewLoopbackChannel')
                 for name in ('CreateChannel', 'CreateCustomChannel')],
    'device_code': [('made.cu', f'#include "{name}"\n', 'nvcc may read')
                    for name in ('absl/status/status.h',
                                 'proto/config.pb.h')] + [
                    ('made.cu', 'void F() { asm volatile("nop;"); }\n',
                     'ptx*.h alone')],
    'citations': [('citing.cc', '// See never_written.h for why.\n',
                   'never_written.h')],
    'later': [(name, f'# {FIX}: the rest\n', 'marked for later')
              for name in ('later.py', 'BUILD', '.bazelrc', '.ci/run')],
    'dead_symbols': [('dead.h', '// Nobody calls it.\n' + text, said)
                     for text, said in (
                         ('int NeverCalled();\n', 'NeverCalled'),
                         ('class A {\n  int never_read() const { return n_; }\n'
                          '};\nA* a;\n', 'never_read'))],
    'prose': [('wide.md', text + 'word ' * 40 + '\n', 'columns of prose')
              for text in ('', '- a point\n    ', 'P1. a promise\n\n    ',
                           'a paragraph\n    ', '    drawn\n\nnot: ')],
    'repeats': [('DESIGN.md', 'A sentence of ' + 'many words ' * 6 + 'here.\n'
                 'Not it. A sentence of ' + 'many words ' * 6 + 'here.\n',
                 'DESIGN.md:2: says again')],
    'comment_breach': [('mute.cc', 'int a;\n' * 40, 'say why')],
    'formatting': [(name, 'int   a ;\n', 'clang-format')
                   for name in ('crooked.cc', 'crooked.inc')],
}
# And of some a file that keeps it, though it looks otherwise.
KEPT = {
    'dead_symbols': ('used.h', '// It calls.\nint IsCalled();\n'
                     'inline int a_() {\n  printf(R"(\nTABLE name(id)\n)");\n'
                     '  return IsCalled() + a_();\n}\n'),
    'functions': ('short.cc', SHORT),
    'prose': ('drawn.md', 'As here:\n\n    ' + 'word ' * 40 + '\n| ' +
              'cell ' * 40 + '|\n'),
}


def of_rule(rule, root):
  return list(rule(tidy.Checkout(root)))


def said_of(rule, name, text):
  """What the rule finds in a checkout of this one file."""
  with tempfile.TemporaryDirectory() as root:
    os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
    with open(os.path.join(root, name), 'w', encoding='utf-8') as file:
      file.write(text)
    with open(os.path.join(HERE, '..', '.clang-format'),
              encoding='utf-8') as style:
      with open(os.path.join(root, '.clang-format'), 'w',
                encoding='utf-8') as copy:
        copy.write(style.read())
    return of_rule(rule, root)


def faults(rule):
  """What is wrong with the rule itself."""
  for name, text, said in BREACHES[rule.__name__]:
    found = said_of(rule, name, text)
    if len(found) != 1 or said not in found[0]:
      yield f'{rule.__name__} says {found} of {name}, not "{said}": {text[:60]}'
  if rule.__name__ in KEPT:
    found = said_of(rule, *KEPT[rule.__name__])
    if found:
      yield f'{rule.__name__} says {found} of what keeps it'


def main():
  _, why_unformatted = tidy.formatter()
  suite = ET.Element('testsuite', name='tidy')
  failed = False
  for rule in tidy.CHECKS:
    case = ET.SubElement(suite, 'testcase', classname='tidy',
                         name=rule.__name__, status='run')
    if rule is tidy.formatting and why_unformatted:
      ET.SubElement(case, 'skipped', message=why_unformatted)
      continue
    wrong = list(faults(rule)) + of_rule(rule, os.path.dirname(HERE))
    if wrong:
      failed = True
      ET.SubElement(case, 'failure', message=wrong[0])
      print('\n'.join(wrong))
  print(f'{100 * tidy.comment_share(tidy.Checkout(os.path.dirname(HERE))):.1f}'
        ' % of the sources\' lines say why')
  if 'XML_OUTPUT_FILE' in os.environ:
    suites = ET.Element('testsuites')
    suites.append(suite)
    ET.ElementTree(suites).write(os.environ['XML_OUTPUT_FILE'])
  return failed


if __name__ == '__main__':
  sys.exit(main())
