// Types of what the scripts of the report and of the page hand to each other; for checking only, nothing is built.

interface Box {
  time: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

interface Evidence {
  probabilities: Record<string, number> | null;
  reason: string;
  share: number | null;
  points?: number | null;
  valence?: number | null;
  arousal?: number | null;
  box?: Omit<Box, "time"> | null;
}

/** A window of an analysis, its summary for a person, or a step of a live stream: see analysis.schema.json. */
interface Verdict {
  start: number;
  end: number;
  person: string | null;
  label: string | null;
  confidence: number | null;
  sentiment: number | null;
  valence?: number | null;
  arousal?: number | null;
  conflict: number | null;
  conflict_text: string;
  prior?: number | null;
  speaking?: number | null;
  /** Where the head is directed, in degrees, and in how much of the pictures at the camera. */
  head?: { yaw: number; pitch: number; roll: number; towards_camera: number } | null;
  fused: Record<string, number> | null;
  evidence: Record<string, Evidence>;
}

interface Cue {
  start: number;
  end: number;
  text: string;
  language?: string | null;
  speaker?: string | null;
  label?: string | null;
  confidence?: number | null;
  sentiment?: number | null;
}

interface Turn {
  start: number;
  end: number;
  speaker: string;
  probability: number;
}

interface Person {
  id: string;
  boxes: Box[];
}

interface Source {
  name: string;
  kind: string;
  duration: number;
}

/** What a timeline is drawn from. */
interface Curves {
  source: Pick<Source, "kind" | "duration">;
  modalities: string[];
  windows: Verdict[];
  cues: Cue[];
}

interface Analysis extends Curves {
  source: Source;
  labels: string[];
  settings: Record<string, unknown>;
  notes: string[];
  persons: Person[];
  turns?: Turn[];
  summary: Verdict[];
}

/** Who is who and who speaks: see people.js. */
interface People {
  /** Those with answers of their own, in the order of the summaries. */
  answered: string[];
  turns: Turn[];
  /** Seconds of speech. */
  spoken: number;
  name: (id: string | null) => string;
  /** The class of the person's colour. */
  colour: (id: string | null) => string;
  sure: (turn: Turn) => boolean;
  dot: (id: string | null) => HTMLElement;
  turnAt: (time: number) => Turn | null;
  turnsOf: (id: string | null) => Turn[];
  /** Who speaks, as a sentence. */
  speaks: (turn: Turn) => string;
  /** Whether words are those of a person, or may be. */
  owns: (id: string | null, cue: Cue) => boolean;
}

interface Palette {
  colours: Record<string, string>;
  inks: Record<string, string>;
  stack: string[];
}

interface Medium {
  kind: string;
  ratio: number | null;
  stills: [number, string][];
  note: string;
  details: Record<string, string>;
  /** Small pictures of moments, by the time of their start. */
  thumbnails?: [number, string][];
}

/** Sentences of an analysis in one language, an entry a person. */
interface Answers {
  headlines: string[][];
  absences: Record<string, string[]>[];
  highlights?: Highlight[][];
}

/** A moment that is worth a look first: see affuse.report.highlights. */
interface Highlight {
  start: number;
  end: number;
  kind: "emotion" | "conflict" | "change";
  label: string | null;
  value: number;
  text: string;
  /** The number of the sentence, in a bare text. */
  cue?: number | null;
}

/** Texts by language and key. */
type Messages = Record<string, Record<string, string>>;

type Say = (key: string, values?: Record<string, unknown>) => string;

/** One language: its texts, and what turns the English sentences of an analysis into it. */
interface Speech {
  language: string;
  say: Say;
  sentence: (text: string) => string;
  conflict: (text: string) => string;
  verdict: (verdict: Verdict) => Verdict;
}

/** Something that plays: a media element, or a clock where there is nothing to play. */
interface Player extends EventTarget {
  currentTime: number;
  duration: number;
  paused: boolean;
  playbackRate: number;
  play(): Promise<void>;
  pause(): void;
}

interface Cell {
  window: Verdict;
  start: number;
  end: number;
}

interface Index {
  windows: Verdict[];
  cells: Cell[];
  extent: number;
  at: (time: number) => Verdict | null;
  /** The cells of a stretch of time. */
  between: (from: number, to: number) => Cell[];
  step: (time: number, steps: number) => number;
}

interface Viewer {
  state: () => { chosen: number; time: number };
  destroy: () => void;
}

interface Job {
  id: string;
  state: "queued" | "running" | "done" | "failed";
  name: string;
  created: number;
  progress: number;
  stage: string;
  error: string;
  answers?: { person: string | null; label: string | null; confidence: number | null; sentiment: number | null }[] | null;
  result: Analysis;
}

// The scripts of reports are served beside those of the page.
declare module "*/report/elements.js" {
  export * from "affuse-report/elements.js";
}
declare module "*/report/parts.js" {
  export * from "affuse-report/parts.js";
}
declare module "*/report/speech.js" {
  export * from "affuse-report/speech.js";
}
declare module "*/report/theme.js" {
  export * from "affuse-report/theme.js";
}
declare module "*/report/timeline.js" {
  export * from "affuse-report/timeline.js";
}
declare module "*/report/viewer.js" {
  export * from "affuse-report/viewer.js";
}

// What runs in the thread of the sound; the DOM library leaves it out.
declare const sampleRate: number;
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
