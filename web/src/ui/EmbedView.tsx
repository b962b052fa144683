import type { JSX } from "preact";
import type { Embed } from "../protocol/payloads";
import { Markup } from "./markup";

/** The words of an embed. */
export function EmbedView({ embed, name }: { embed: Embed; name: (id: string) => string }): JSX.Element {
  const { author, title, url, description, fields, footer, color } = embed;
  const isLink = url !== undefined && /^https?:\/\//.test(url);
  return (
    <div class="embed" style={color ? { "--embed": `#${color.toString(16).padStart(6, "0")}` } : {}}>
      {author?.name && <p class="embed-small">{author.name}</p>}
      {title && (
        <p class="embed-title">
          {isLink ? (
            <a href={url} target="_blank" rel="noopener noreferrer nofollow">
              {title}
            </a>
          ) : (
            title
          )}
        </p>
      )}
      {description && (
        <div class="message-text">
          <Markup content={description} name={name} />
        </div>
      )}
      {fields && fields.length > 0 && (
        <dl class="embed-fields">
          {fields.map((field, index) => (
            <div key={index} class={field.inline ? "" : "wide"}>
              <dt>{field.name}</dt>
              <dd class="message-text">
                <Markup content={field.value} name={name} />
              </dd>
            </div>
          ))}
        </dl>
      )}
      {footer?.text && <p class="embed-small">{footer.text}</p>}
    </div>
  );
}
