/**
 * Text from models, made safe to look at: invisible and direction-changing characters become visible chips.
 * Pure logic; `fillText` in dom.mjs turns the segments into nodes by textContent alone.
 */

// Controls, formats (zero-width, bidirectional), private use, unassigned, odd blanks that look like nothing or like a space.
const HIDDEN =
  /(?![\n\t\ufe0f])[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u00a0\u2028\u2029\u2800]/u;
const PICTURE = /\p{Extended_Pictographic}|\p{Emoji_Modifier}|\ufe0f/u;
const NAMES = {
  0x00: "null",
  0x0d: "carriage return",
  0x1b: "escape",
  0xa0: "no-break space",
  0xad: "soft hyphen",
  0x200b: "zero-width space",
  0x200c: "zero-width non-joiner",
  0x200d: "zero-width joiner",
  0x200e: "left-to-right mark",
  0x200f: "right-to-left mark",
  0x202a: "left-to-right embedding",
  0x202b: "right-to-left embedding",
  0x202c: "end of embedding",
  0x202d: "left-to-right override",
  0x202e: "right-to-left override",
  0x2060: "word joiner",
  0x2066: "left-to-right isolate",
  0x2067: "right-to-left isolate",
  0x2068: "first-strong isolate",
  0x2069: "end of isolate",
  0xfeff: "byte order mark",
  0x2028: "line separator",
  0x2029: "paragraph separator",
};

/** "U+202E" for the character. */
function codePoint(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

/** What a hidden character is called, for a tooltip. */
function hiddenName(character) {
  return NAMES[character.codePointAt(0)] ?? "invisible character";
}

/** Split text into [{text}] and [{hidden, code, name}] pieces; line breaks, tabs and joined emoji stay text. */
export function segments(text) {
  if (!HIDDEN.test(text)) return text ? [{ text }] : [];
  const pieces = [];
  let plain = "";
  const characters = Array.from(text);
  characters.forEach((character, i) => {
    if (!isHidden(character, characters[i - 1], characters[i + 1])) {
      plain += character;
      return;
    }
    if (plain) pieces.push({ text: plain });
    plain = "";
    pieces.push({ hidden: true, code: codePoint(character), name: hiddenName(character) });
  });
  if (plain) pieces.push({ text: plain });
  return pieces;
}

function isHidden(character, before = "", after = "") {
  if (!HIDDEN.test(character)) return false;
  return !(character === "\u200d" && PICTURE.test(before) && PICTURE.test(after));
}
