import type { EncoderOptions, FrameSource } from "./tiles.js";
import type { ErrorMessage, HelloFields, Ready, Result, Size } from "./wire.js";

export interface StreamOptions {
  /** Of `POST /v1/streams`, or an API key; null on servers that take anonymous streams. */
  token?: string | null;
  /** Fields of the first message: model, policy, max_fps, min_confidence, outputs, ... */
  hello?: HelloFields;
  /** Ask to be allowed to send only what changed: for `sendFrame`; default false. */
  tiles?: boolean;
  /** How `sendFrame` encodes. */
  encoder?: EncoderOptions;
  /**
   * Failures in a row before it gives up; 0 never comes back; default 10. A connection is a success once a frame is
   * settled, or after `maximumMs`.
   */
  attempts?: number;
  /** First wait; waits double, and each is drawn from its upper half; default 250. */
  initialMs?: number;
  /** Longest wait; default 10 000. */
  maximumMs?: number;
  /** Longest wait that a server gets by asking for one; jitter goes on top; default 60 000. */
  askedMs?: number;
  /** For the handshake; default 10 000. */
  openTimeoutMs?: number;
  /** From the handshake to `ready`: a model's first use compiles it; default 120 000. */
  readyTimeoutMs?: number;
  /**
   * A connection on which a frame is under way and nothing comes for so long is given up; four round trips where that is
   * longer, and twice as long each time until something comes; default 5000.
   */
  stallMs?: number;
  /**
   * How often in a row the stream may be sent to another server of a cluster, which is no failure; 0 ends it; default 4.
   * The token goes with it, to whatever host the server names, but never from wss to ws.
   */
  moves?: number;
  /** No frame is sent while more than this waits in the socket; default 131 072. */
  maxBufferedBytes?: number;
}

export type StreamState = "new" | "connecting" | "greeting" | "open" | "draining" | "waiting" | "ended";

/** How a connection ended. */
export interface Ending {
  code: number;
  reason: string;
  /** The server's last error that concerned no frame. */
  said: { code: string; detail: string } | null;
}

export type StateDetail =
  | { state: "connecting" | "greeting" | "open" | "draining" }
  | ({ state: "waiting"; waitMs: number; attempt: number } & Ending)
  /** `final`: false where `close` was called. */
  | ({ state: "ended"; final: boolean } & Ending);

export interface ResultDetail {
  result: Result;
  roundTripMs: number;
  /** The JPEG with boxes, where `outputs` has it. */
  annotated: Uint8Array | null;
}

export interface LostDetail {
  /** Frames that were under way when the connection broke; they get no result. */
  seqs: number[];
}

export interface MovedDetail {
  /** Where the stream is now. */
  url: string;
}

export interface StreamEventMap {
  state: CustomEvent<StateDetail>;
  ready: CustomEvent<Ready>;
  result: CustomEvent<ResultDetail>;
  /** Of a frame, where it has a `seq`. */
  refused: CustomEvent<ErrorMessage>;
  lost: CustomEvent<LostDetail>;
  moved: CustomEvent<MovedDetail>;
}

type Listener<K extends keyof StreamEventMap> =
  | ((this: StreamClient, event: StreamEventMap[K]) => unknown)
  | { handleEvent(event: StreamEventMap[K]): unknown }
  | null;

/** One stream over one WebSocket, which comes back by itself. */
export declare class StreamClient extends EventTarget {
  /** @param url of the stream: see `streamUrl` */
  constructor(url: string | URL, options?: StreamOptions);
  get state(): StreamState;
  /** The server's last `ready`. */
  get ready(): Ready | null;
  /** Where the stream is, as far as is known: its WebSocket address. */
  get url(): string;
  /** Frames sent and not settled yet. */
  get unacked(): number;
  /** How many frames may be sent now: the window's room, and none while the line is behind. */
  get credits(): number;
  /** Connect. Nothing if it was called before. */
  open(): void;
  /**
   * Send an encoded image, if there is a credit.
   * @param captureTsUs when it was taken: microseconds since 1970, for the server to tell results' age
   * @returns its sequence number; null where there is no credit
   * @throws {WireError} for an image that the server's limits do not allow
   */
  send(payload: Uint8Array, captureTsUs: number | bigint, options?: { reset?: boolean }): number | null;
  /**
   * Scale a picture to what the model takes in, encode it, and send it, if there is a credit: whole, or as the tiles that
   * changed. One at a time. An ImageBitmap or VideoFrame is taken over and closed, whatever comes of it.
   * @param options.size for it to fit into, px, instead of `ready.size`
   * @returns its sequence number; null where there was no credit, before or after encoding
   * @throws {WireError} for an image that the server's limits do not allow
   * @throws {TypeError} where the browser cannot encode `hello.content_type`
   */
  sendFrame(
    source: FrameSource,
    captureTsUs: number | bigint,
    options?: { reset?: boolean; size?: Size },
  ): Promise<number | null>;
  /** End the stream. With `bye` (the default) results still due come first; without, a resume stays possible. */
  close(options?: { bye?: boolean }): Promise<void>;
  addEventListener<K extends keyof StreamEventMap>(
    type: K,
    listener: Listener<K>,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof StreamEventMap>(
    type: K,
    listener: Listener<K>,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * The WebSocket address of a stream.
 * @param base of the server, http(s) or ws(s), with the path it is served below
 * @param streamId 1 to 64 characters of A-Z a-z 0-9 _ -
 * @throws {TypeError} for an address of another kind
 */
export declare function streamUrl(base: string | URL, streamId: string): string;
