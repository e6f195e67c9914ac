"""Counts test cases from Bazel's build events; see tools/test.sh.

usage: test_summary.py EVENTS_JSON BAZEL_EXIT_STATUS

A target that wrote GoogleTest's XML counts as its cases; any other, one that
crashed before writing it included, counts as one. A target that could not be
built counts as one failure. The last line is `N passed, N failed`; the exit
status is 0 only if Bazel's was and nothing failed.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as ET

BAZEL_NO_TESTS = 4


def xml_cases(uri):
    """[(name, failed, skip reason or None)] of one test.xml."""
    path = urllib.parse.unquote(urllib.parse.urlparse(uri).path)
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return []
    cases = []
    for case in root.iter("testcase"):
        name = ".".join(part for part in (case.get("classname"), case.get("name")) if part)
        failed = case.find("failure") is not None or case.find("error") is not None
        reason = None
        if case.get("result") == "skipped" or case.find("skipped") is not None:
            skip = case.find("skipped")
            text = skip.get("message") or skip.text if skip is not None else None
            reason = (text or "no reason given").strip().splitlines()[-1]
        elif case.get("status") == "notrun":
            continue
        cases.append((name, failed, reason))
    return cases


def read_events(path):
    """What became of each target: (status, [xml uri]) by label, unbuilt labels."""
    results, shards, unbuilt = {}, {}, set()
    with open(path, encoding="utf-8") as events:
        for line in events:
            event = json.loads(line)
            ids = event.get("id", {})
            if "testResult" in ids and "testResult" in event:
                label = ids["testResult"]["label"]
                uris = [out["uri"] for out in event["testResult"].get("testActionOutput", [])
                        if out.get("name") == "test.xml" and "uri" in out]
                key = (ids["testResult"].get("shard"), ids["testResult"].get("run"))
                shards.setdefault(label, {})[key] = uris
            elif "testSummary" in ids and "testSummary" in event:
                results[ids["testSummary"]["label"]] = event["testSummary"]["overallStatus"]
            elif "targetCompleted" in ids and not event.get("completed", {}).get("success", False):
                unbuilt.add(ids["targetCompleted"]["label"])
    uris = {label: [uri for part in parts.values() for uri in part]
            for label, parts in shards.items()}
    return results, uris, unbuilt


def main():
    results, uris, unbuilt = read_events(sys.argv[1])
    bazel_status = int(sys.argv[2])
    passed, failed, skipped = 0, [], []
    for label, status in sorted(results.items()):
        ok = status in ("PASSED", "FLAKY")
        cases = [case for uri in uris.get(label, []) for case in xml_cases(uri)]
        for name, bad, reason in cases:
            if bad:
                failed.append("%s %s" % (label, name))
            elif reason is not None:
                skipped.append("%s %s: %s" % (label, name, reason))
            else:
                passed += 1
        if not ok and not any(bad for _, bad, _ in cases):
            failed.append("%s: %s" % (label, status))
        elif ok and not cases:
            passed += 1
    for label in sorted(unbuilt - set(results)):
        failed.append("%s: not built" % label)
    if bazel_status not in (0, BAZEL_NO_TESTS) and not failed:
        failed.append("bazel test: exit status %d" % bazel_status)
    for line in skipped:
        print("skipped: " + line)
    for line in failed:
        print("failed: " + line)
    print("%d passed, %d failed" % (passed, len(failed)))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
