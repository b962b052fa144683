import type { JSX } from "preact";
import { call, instance } from "../state/app";
import { Dialog } from "./Dialog";

function figure(value: number | undefined, unit: string, digits = 0): string {
  return value === undefined || Number.isNaN(value) ? "—" : `${value.toFixed(digits)} ${unit}`;
}

/** Pings of the last minute; the scale never shrinks below 60 ms, so a calm line looks calm. */
function Graph({ pings }: { pings: readonly number[] }): JSX.Element {
  const width = 300;
  const height = 64;
  const top = Math.max(60, ...pings) * 1.15;
  const x = (index: number) => width - (pings.length - 1 - index) * (width / 59);
  const y = (ping: number) => height - 2 - (ping / top) * (height - 6);
  const line = pings.map((ping, index) => `${index === 0 ? "M" : "L"}${x(index).toFixed(1)} ${y(ping).toFixed(1)}`).join("");
  return (
    <svg class="ping-graph" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label="Ping in the last minute">
      {pings.length > 1 && <path class="ping-area" d={`${line}L${width} ${height}L${x(0)} ${height}Z`} />}
      {pings.length > 1 && <path class="ping-line" d={line} />}
    </svg>
  );
}

function Row({ name, children }: { name: string; children: string }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function quality(ping: number | undefined, loss: number): string {
  if (ping === undefined) return "Waiting for figures";
  if (loss > 5 || ping > 300) return "Poor";
  if (loss > 1.5 || ping > 150) return "Fair";
  return "Good";
}

export function ConnectionPanel(): JSX.Element {
  const stats = call.stats.value;
  const problem = call.problem.value;
  const server = call.peer?.server;
  const pings = call.pings.value;
  const loss = Math.max(stats?.lossUp ?? 0, stats?.lossDown ?? 0);
  const verdict = call.transport.value === "connected" ? quality(stats?.ping, loss) : "Not connected";
  return (
    <Dialog title="Connection" class="connection" testId="connection-dialog">
      {problem && (
        <div class="trouble" role="alert">
          <p class="trouble-title">{problem.title}</p>
          <p class="trouble-detail">{problem.detail}</p>
        </div>
      )}
      <div class="ping">
        <div>
          <p class="ping-now">
            {stats?.ping === undefined ? "—" : Math.round(stats.ping)} <small>ms</small>
          </p>
          <p class={`verdict ${verdict.toLowerCase()}`}>{verdict}</p>
        </div>
        <Graph pings={pings} />
      </div>
      <table class="figures">
        <thead>
          <tr>
            <th scope="col">
              <span class="sr-only">Figure</span>
            </th>
            <th scope="col">You send</th>
            <th scope="col">You receive</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">Bitrate</th>
            <td>{figure(stats?.bitrateUp, "kbit/s")}</td>
            <td>{figure(stats?.bitrateDown, "kbit/s")}</td>
          </tr>
          <tr>
            <th scope="row">Loss</th>
            <td>{figure(stats?.lossUp, "%", 1)}</td>
            <td>{figure(stats?.lossDown, "%", 1)}</td>
          </tr>
          <tr>
            <th scope="row">Jitter</th>
            <td>{figure(stats?.jitterUp, "ms", 1)}</td>
            <td>{figure(stats?.jitterDown, "ms", 1)}</td>
          </tr>
        </tbody>
      </table>
      <dl class="facts">
        <Row name="Region">{instance.value?.region ?? "—"}</Row>
        <Row name="Voice server">{call.endpoint.value || "—"}</Row>
        <Row name="Media">{server ? `${server.host}, UDP port ${server.port}` : "—"}</Row>
        <Row name="Transport">{[call.transport.value, stats?.ice && `ICE ${stats.ice}`, stats?.dtls && `DTLS ${stats.dtls}`].filter(Boolean).join(" · ")}</Row>
        <Row name="Codec">{stats?.codec ?? "—"}</Row>
        <Row name="Encryption">{stats?.srtpCipher ?? "—"}</Row>
        <Row name="Signalling">{figure(call.signalling.latency, "ms")}</Row>
      </dl>
    </Dialog>
  );
}
