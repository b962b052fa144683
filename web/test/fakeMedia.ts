/** Stands in for what only a browser has; of each module that is replaced, what it exports. */

interface FakePeer {
  events: { state(state: string): void; streams(streams: Map<string, unknown>): void };
  server: { host: string; port: number } | undefined;
  spoke: [string, number, boolean][];
  gone: string[];
  sending: boolean | undefined;
  closed: boolean;
  packets: number;
}

export const fakes = {
  peers: [] as FakePeer[],
  open: undefined as ((url: string) => unknown) | undefined,
  /** What getUserMedia would throw. */
  refusal: undefined as string | undefined,
  captures: 0,
  priority: [] as string[][],
  /** Who is played, and on which stream. */
  played: new Map<string, unknown>(),
};

export const rtc = {
  Peer: class implements FakePeer {
    readonly events: FakePeer["events"];
    server: FakePeer["server"];
    spoke: FakePeer["spoke"] = [];
    gone: string[] = [];
    sending: boolean | undefined;
    closed = false;
    packets = 0;
    received = async () => this.packets;
    offer = Promise.resolve({ fragment: "v=0", codecs: [], ssrc: 77 });
    connection = { getStats: async () => new Map(), connectionState: "connected" };
    constructor(events: FakePeer["events"]) {
      this.events = events;
      fakes.peers.push(this);
    }
    accept = async () => {
      this.server = { host: "192.0.2.1", port: 50000 };
    };
    setTrack = async () => undefined;
    setSending = async (on: boolean) => {
      this.sending = on;
    };
    speaking = (...spoke: [string, number, boolean]) => this.spoke.push(spoke);
    leave = (id: string) => this.gone.push(id);
    close = () => {
      this.closed = true;
    };
  },
};

export const playback = {
  Playback: class {
    streams = new Map();
    update = (streams: Map<string, unknown>) => {
      fakes.played = streams;
    };
    setVolume = () => undefined;
    setDeaf = () => undefined;
    setSink = async () => undefined;
    setPriority = (ids: ReadonlySet<string>) => fakes.priority.push([...ids]);
    unblock = async () => undefined;
    clear = () => undefined;
  },
};

export const capture = {
  Capture: class {
    running = false;
    track = undefined;
    start = async () => {
      fakes.captures++;
      if (fakes.refusal) throw Object.assign(new Error(fakes.refusal), { name: fakes.refusal });
      this.running = true;
    };
    stop = () => {
      this.running = false;
    };
    configure = () => undefined;
    resume = async () => undefined;
  },
};

export const cues = { playCue: () => undefined };

export const link = { openWebSocket: (url: string) => fakes.open?.(url) };
