// Images of the model, and noise, on a canvas: float32 in [-1, 1], (H, W, C) with C = 1 or 3.

// Draw an image, pixel for pixel; the style makes it large. What lies outside the range is cut.
export function paint(canvas, values, [height, width, channels]) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"),
    image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let c = 0; c < 3; c++) image.data[4 * pixel + c] = 127.5 * (1 + values[channels * pixel + (c % channels)]);
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
