import assert from 'node:assert/strict';
import test from 'node:test';

import { readingTime } from './words.js';

test('a sentence takes seconds', () => {
  assert.equal(readingTime('five words are two seconds'), '2 seconds');
});

test('a book takes hours', () => {
  assert.equal(readingTime('word '.repeat(18_000)), '2 hours');
});
