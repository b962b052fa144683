import type { ComponentChildren, JSX } from "preact";

/** A piece of a message: text, or text with one meaning. Nothing a sender writes becomes markup of the page. */
export type Piece =
  | { kind: "text" | "bold" | "italic" | "strike" | "code" | "block"; text: string }
  | { kind: "link"; text: string; href: string }
  | { kind: "mention"; id: string };

const pattern = new RegExp(
  [
    "```(?:[a-z0-9]*\\n)?(?<block>[\\s\\S]+?)```",
    "`(?<code>[^`\\n]+)`",
    "\\*\\*(?<bold>[^*\\n]+)\\*\\*",
    "(?<![\\w*])(?<mark>[*_])(?=\\S)(?<italic>[^*_\\n]+)(?<=\\S)\\k<mark>(?![\\w*])",
    "~~(?<strike>[^~\\n]+)~~",
    "<@!?(?<mention>\\d+)>",
    "(?<link>https?://[^\\s<>\"]+)",
  ].join("|"),
  "g",
);

/** Punctuation that ends a sentence is not part of the address before it. */
function trimLink(link: string): string {
  let end = link.replace(/[.,;:!?'"]+$/, "");
  while (end.endsWith(")") && (end.match(/\(/g)?.length ?? 0) < (end.match(/\)/g)?.length ?? 0)) end = end.slice(0, -1);
  return end;
}

function safeLink(text: string): Piece | undefined {
  try {
    const url = new URL(text);
    if (url.protocol === "http:" || url.protocol === "https:") return { kind: "link", text, href: url.href };
  } catch {
    // Not an address after all; it stays text.
  }
  return undefined;
}

export function parseMarkup(content: string): Piece[] {
  const pieces: Piece[] = [];
  let last = 0;
  for (const match of content.matchAll(pattern)) {
    const groups = match.groups ?? {};
    let length = match[0].length;
    let piece: Piece | undefined;
    if (groups["link"]) {
      const link = trimLink(groups["link"]);
      length = link.length;
      piece = safeLink(link);
    } else if (groups["mention"]) {
      piece = { kind: "mention", id: groups["mention"] };
    } else {
      for (const kind of ["block", "code", "bold", "italic", "strike"] as const) {
        if (groups[kind]) piece = { kind, text: groups[kind] };
      }
    }
    if (!piece) continue;
    if (match.index > last) pieces.push({ kind: "text", text: content.slice(last, match.index) });
    pieces.push(piece);
    last = match.index + length;
  }
  if (last < content.length) pieces.push({ kind: "text", text: content.slice(last) });
  return pieces;
}

export function Markup({ content, name }: { content: string; name: (id: string) => string }): JSX.Element {
  return <>{parseMarkup(content).map((piece, index) => <Part key={index} piece={piece} name={name} />)}</>;
}

function Part({ piece, name }: { piece: Piece; name: (id: string) => string }): ComponentChildren {
  switch (piece.kind) {
    case "text":
      return piece.text;
    case "bold":
      return <strong>{piece.text}</strong>;
    case "italic":
      return <em>{piece.text}</em>;
    case "strike":
      return <s>{piece.text}</s>;
    case "code":
      return <code>{piece.text}</code>;
    case "block":
      return (
        <pre>
          <code>{piece.text}</code>
        </pre>
      );
    case "mention":
      return <span class="mention">@{name(piece.id)}</span>;
    case "link":
      return (
        <a href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
          {piece.text}
        </a>
      );
  }
}
