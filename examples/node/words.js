import ms from 'ms';

/** How long `text` takes to read aloud, in words for people. */
export function readingTime(text) {
  const words = text.split(/\s+/u).filter(Boolean).length;
  return ms(words * 400, { long: true });
}
