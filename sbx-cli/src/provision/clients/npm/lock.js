// About package-lock.json of the working directory.
// `is-at-least VERSION`: whether this node is.
// `ambiguous`: the packages that are for this system and processor but do not say for which C library, as NAME@VERSION.
// `print [PACKAGE LIBC]…`: the lock file and the platform as one line of JSON; LIBC is JSON, or nothing, for a package of those.
'use strict';
const fs = require('fs');

const [task, ...words] = process.argv.slice(2);
if (task === 'is-at-least') {
  const [have, need] = [process.versions.node, words[0]].map((version) => version.split('.').map((part) => parseInt(part, 10)));
  const differing = need.findIndex((part, index) => part !== have[index]);
  process.exit(differing === -1 || have[differing] > need[differing] ? 0 : 1);
}

const packages = JSON.parse(fs.readFileSync('package-lock.json', 'utf8')).packages || {};
const entries = Object.entries(packages);

function identity(place, entry) {
  const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
  return `${entry.name || name}@${entry.version}`;
}

function isAmbiguous([, entry]) {
  const lists = (list, value) => Array.isArray(list) && list.includes(value);
  return !entry.libc && lists(entry.os, process.platform) && lists(entry.cpu, process.arch);
}

function platform() {
  const header = process.report ? process.report.getReport().header : {};
  return { os: process.platform, cpu: process.arch, libc: header.glibcVersionRuntime ? 'glibc' : 'musl' };
}

if (task === 'ambiguous') {
  const found = entries.filter(isAmbiguous).map(([place, entry]) => identity(place, entry));
  // One alone is for whatever C library there is.
  if (found.length > 1) console.log(found.join('\n'));
} else {
  const libraries = new Map();
  for (let index = 0; index + 1 < words.length; index += 2) {
    if (words[index + 1]) libraries.set(words[index], [].concat(JSON.parse(words[index + 1])));
  }
  for (const [place, entry] of entries) {
    const libc = libraries.get(identity(place, entry));
    if (libc) entry.libc = libc;
  }
  console.log(JSON.stringify({ platform: platform(), packages }));
}
