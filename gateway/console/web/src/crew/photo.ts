// A photo as it is sent: at most 1600 px and as JPEG, some 300 kB of the camera's 4 MB; without the camera's own notes
// (where, when, which phone), which drawing it anew leaves behind.
export const LONGEST_PX = 1600;
export const MOST_BYTES = 5 * 2 ** 20; // what the gateway takes
const QUALITY = 0.82;

/** The size to draw at. */
export function fitted(width: number, height: number, most = LONGEST_PX): [number, number] {
  const scale = Math.min(1, most / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** Raises Error for what is no picture that this browser knows. */
export async function shrunk(file: Blob): Promise<Blob> {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  try {
    const [width, height] = fitted(picture.width, picture.height);
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d")!.drawImage(picture, 0, 0, width, height);
    const made = await new Promise<Blob | null>((give) => canvas.toBlob(give, "image/jpeg", QUALITY));
    if (made === null || made.size > MOST_BYTES) throw new Error("the picture cannot be made small");
    return made;
  } finally {
    picture.close();
  }
}
