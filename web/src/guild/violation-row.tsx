/** One violation. Everything a member wrote is text here, never markup and never a link. */

import { Component, createRef, type JSX } from "preact";
import type { Entry } from "../live/feed.ts";
import { Ago } from "../ui/ago.tsx";
import { Avatar } from "../ui/avatar.tsx";
import { nameOr, tame } from "../ui/strangers.ts";
import { actionWords, detectionWords, personWords, SEVERITY_WORDS } from "./words.ts";

interface RowProps {
  entry: Entry;
}

/** A class for `shouldComponentUpdate`: in a storm 500 rows are compared each frame, and a few are drawn. */
export class ViolationRow extends Component<RowProps> {
  readonly #item = createRef<HTMLLIElement>();

  override shouldComponentUpdate(next: RowProps): boolean {
    return next.entry !== this.props.entry;
  }

  /** Runs in the animation frame that put the row in the document; the end-to-end test reads both times. */
  override componentDidMount(): void {
    const item = this.#item.current;
    const { violation, live } = this.props.entry;
    if (item === null || !live) return;
    item.dataset.committedAt = String(violation.committed_at);
    item.dataset.renderedAt = String(performance.timeOrigin + performance.now());
  }

  override render({ entry: { violation, highlighted } }: RowProps): JSX.Element {
    const person = personWords(violation);
    const action = actionWords(violation);
    const { severity, user } = violation;
    return (
      <li
        ref={this.#item}
        class={`violation edge-${severity}${highlighted ? " arrived" : ""}`}
        data-violation-id={violation.id}
        data-testid="violation"
      >
        <Avatar id={user.id} name={person.known ? person.name : ""} url={user.avatar_url} />
        <p class="violation-what">
          <strong class="person">
            <bdi>{person.name}</bdi>
          </strong>
          {person.handle !== null && (
            <span class="handle">
              {" "}
              <bdi>{person.handle}</bdi>
            </span>
          )}{" "}
          <span class="violation-verb">
            {detectionWords(violation.detection)} in{" "}
            <span class="channel">
              {violation.channel_name === null ? (
                "an unknown channel"
              ) : (
                <bdi>#{nameOr(violation.channel_name, violation.channel_id)}</bdi>
              )}
            </span>
          </span>
        </p>
        <span class={`severity text-${severity}`}>
          <span class="visually-hidden">Severity: </span>
          {SEVERITY_WORDS[severity]}
        </span>
        {violation.excerpt !== "" && (
          <blockquote class="excerpt">
            <bdi>{tame(violation.excerpt)}</bdi>
          </blockquote>
        )}
        <p class="violation-end">
          <span class={`action ${action.tone}`}>{action.text}</span>
          <Ago ts={violation.ts} />
        </p>
      </li>
    );
  }
}
