import { describe, expect, it } from "vitest";

import { fieldsOf, withField } from "./form";

const RULE = `# Why this limit stands here.
- rule: wetwell-high
  title: {zh: 集水池高水位, en: Wet well high}
  when:
    point: wetwell
    above:
      - {limit: 3.2 m, level: III}   # the second pump should run
      - {limit: {attribute: crest, factor: 0.9}, level: I}
  on_delay: 30s
  enabled: true
`;

describe("the form of a rule", () => {
  it("shows the numbers that stand in the text, limits with their level", () => {
    expect(fieldsOf(RULE).map((field) => [field.name, field.level, field.value])).toEqual([
      ["above", "III", "3.2 m"],
      ["on_delay", null, "30s"],
      ["enabled", null, true],
    ]);
  });

  it("changes one of them and keeps every comment", () => {
    const [limit] = fieldsOf(RULE);
    const text = withField(RULE, limit!.path, "3.4 m");
    expect(text).toContain("limit: 3.4 m");
    expect(text).toContain("# Why this limit stands here.");
    expect(text).toContain("# the second pump should run");
    expect(fieldsOf(text)[0]?.value).toBe("3.4 m");
  });

  it("writes a bare number as a number and leaves nonsense alone", () => {
    expect(withField("- rule: a\n  when: {point: p, above: 3}\n", [0, "when", "above"], "4.5")).toContain("above: 4.5");
    expect(withField("- rule: [", [0, "x"], "1")).toBe("- rule: [");
    expect(fieldsOf("just words")).toEqual([]);
  });
});
