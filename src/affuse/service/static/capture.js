// Camera and microphone: what the browser gives, as JPEG pictures and as 16 kHz sound.

const SIDE = 640;  // pixels of the longer side of a picture that is sent
const QUALITY = 0.8;
const PICTURE_GAP = 66;  // milliseconds: fewer than 12 pictures a second do not show who speaks

/** @type {Record<string, string>} */
const REASONS = { NotAllowedError: "live.denied", SecurityError: "live.denied", NotFoundError: "live.absent", OverconstrainedError: "live.absent", NotReadableError: "live.busy", AbortError: "live.busy" };

/**
 * Why the browser gave nothing, as a key of the page's texts.
 * @param {Error} error
 */
export const reasonOf = (error) => REASONS[error.name] ?? "live.absent";

/** Cameras and microphones by kind; their names are empty until the user has allowed one. */
export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return { cameras: all.filter((d) => d.kind === "videoinput"), microphones: all.filter((d) => d.kind === "audioinput") };
}

/**
 * @param {string} id
 * @param {MediaTrackConstraints} more
 */
const wish = (id, more) => (id === "off" ? false : { ...more, ...(id ? { deviceId: { exact: id } } : {}) });

/**
 * Ask for devices by their ids: "" is any, "off" none.
 * @param {string} camera
 * @param {string} microphone
 */
export const openDevices = (camera, microphone) => navigator.mediaDevices.getUserMedia({
  video: wish(camera, { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } }),
  audio: wish(microphone, { channelCount: { ideal: 1 } }),
});

/**
 * Give pictures of `video` to `take(bytes, at)` at most 15 times a second; returns what ends it.
 * @param {HTMLVideoElement} video
 * @param {(bytes: Uint8Array, at: number) => void} take
 */
export function capturePictures(video, take) {
  const canvas = document.createElement("canvas");
  const timer = setInterval(() => {
    if (video.readyState < 2 || !video.videoWidth) return;
    const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
    const at = performance.now();
    // toBlob waits for the browser to be idle, seconds on a busy machine: pictures would come when their time is over.
    const encoded = atob(canvas.toDataURL("image/jpeg", QUALITY).split(",")[1]);
    take(Uint8Array.from(encoded, (letter) => letter.charCodeAt(0)), at);
  }, PICTURE_GAP);
  return () => clearInterval(timer);
}

/**
 * Give the sound of `stream` to `take(buffer, at)` in chunks of 100 ms; returns what ends it.
 * @param {MediaStream} stream
 * @param {(buffer: ArrayBuffer, at: number) => void} take
 */
export async function captureSound(stream, take) {
  const context = new AudioContext();
  await context.audioWorklet.addModule("static/sound-worklet.js");
  const node = new AudioWorkletNode(context, "sound", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => take(data, performance.now());
  context.createMediaStreamSource(stream).connect(node);
  await context.resume();
  return () => {
    node.port.onmessage = null;
    context.close();
  };
}
