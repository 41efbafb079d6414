// Lays out checked archives as npm resolved them, runs the packages' install scripts in npm's order, and links the commands.
// It needs node and tar, not npm, so that neither npm's version nor its caches are seen in what it makes.
'use strict';
const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const PHASES = ['preinstall', 'install', 'postinstall'];
const COMMANDS = '/usr/local/bin';

// { root, wanted: [name in node_modules], node: the package with the node that they brought, or null, packages: [{ place, file }] }
const plan = JSON.parse(fs.readFileSync('/run/sbx/in/npm-plan.json', 'utf8'));
const modules = new Map();

for (const { place, file } of plan.packages) unpack(path.join(plan.root, place), `/run/sbx/in/${file}`);
findModules(plan.root, null);
linkEdges();
for (const phase of PHASES) {
  for (const module of inOrder()) run(module, phase);
  // As with npm, scripts after the first ones can call the commands of other packages.
  if (phase === 'preinstall') for (const module of inOrder()) linkCommands(module);
}
for (const name of plan.wanted) publish(name);

function unpack(directory, archive) {
  fs.mkdirSync(directory, { recursive: true });
  const tar = spawnSync('tar', ['-xf', archive, '-C', directory, '--strip-components=1', '--no-same-owner'], { stdio: 'inherit' });
  if (tar.status !== 0) fail(`cannot unpack ${archive}`);
  normalise(directory);
}

// The modes that npm gives, and only what npm takes out of an archive: files and directories.
function normalise(directory) {
  fs.chmodSync(directory, 0o755);
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) normalise(file);
    else if (entry.isFile()) fs.chmodSync(file, (fs.statSync(file).mode & 0o755) | 0o644);
    else fs.unlinkSync(file);
  }
}

function list(directory) {
  return fs.existsSync(directory) ? fs.readdirSync(directory).sort() : [];
}

// Packages below a directory, those that came inside an archive of another among them.
function findModules(directory, parent) {
  const base = path.join(directory, 'node_modules');
  const found = list(base).flatMap((name) => (name.startsWith('@') ? list(path.join(base, name)).map((part) => `${name}/${part}`) : [name]));
  for (const name of found) {
    const place = path.join(base, name);
    const manifest = path.join(place, 'package.json');
    if (name.startsWith('.') || !fs.existsSync(manifest)) continue;
    const module = { name, place, parent, depth: parent ? parent.depth + 1 : 1, manifest: readManifest(manifest), needs: [], likes: [] };
    modules.set(place, module);
    findModules(place, module);
  }
}

function readManifest(file) {
  const text = fs.readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
  return Object(JSON.parse(text));
}

function find(name, from) {
  for (let at = from; at; at = at.parent) {
    const found = modules.get(path.join(at.place, 'node_modules', name));
    if (found) return found;
  }
  return modules.get(path.join(plan.root, 'node_modules', name));
}

function linkEdges() {
  for (const module of modules.values()) {
    const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = module.manifest;
    const optional = new Set(Object.keys(Object(optionalDependencies)));
    for (const [name, details] of Object.entries(Object(peerDependenciesMeta))) if (Object(details).optional) optional.add(name);
    const all = [dependencies, optionalDependencies, peerDependencies].flatMap((part) => Object.keys(Object(part)));
    for (const name of new Set(all)) {
      const found = find(name, module);
      if (found) (optional.has(name) ? module.likes : module.needs).push(found);
    }
  }
}

// npm's order: from the root downwards, and by place.
function inOrder() {
  return [...modules.values()].sort((a, b) => a.depth - b.depth || (a.place < b.place ? -1 : 1));
}

function script(module, phase) {
  const scripts = Object(module.manifest.scripts);
  const own = scripts[phase];
  if (typeof own === 'string') return own;
  const native = phase === 'install' && !scripts.preinstall && module.manifest.gypfile !== false;
  return native && fs.existsSync(path.join(module.place, 'binding.gyp')) ? 'node-gyp rebuild' : null;
}

function run(module, phase) {
  const text = modules.has(module.place) ? script(module, phase) : null;
  if (!text) return;
  const { name, version } = module.manifest;
  console.error(`> ${name}@${version} ${phase}: ${text}`);
  const home = fs.mkdtempSync('/tmp/npm-');
  const result = spawnSync('sh', ['-c', text], { cwd: module.place, env: environment(module, phase, text, home), stdio: ['ignore', 2, 2] });
  fs.rmSync(home, { recursive: true, force: true });
  if (result.status === 0) return;
  // As npm does: what is only nice to have may be missing.
  const without = dependents(module);
  if (plan.wanted.some((wanted) => without.has(find(wanted, null)))) fail(`${phase} of ${name}@${version} failed`);
  console.error(`sbx: going on without ${[...without].map((each) => each.name).join(', ')}, which may be missing`);
  drop(without);
}

function environment(module, phase, text, home) {
  const search = [];
  for (let at = module; at; at = at.parent) search.push(path.join(at.place, 'node_modules', '.bin'));
  search.push(path.join(plan.root, 'node_modules', '.bin'), path.dirname(process.execPath), process.env.PATH);
  return {
    ...process.env,
    HOME: home,
    INIT_CWD: plan.root,
    NODE: process.execPath,
    PATH: search.join(':'),
    npm_command: 'ci',
    npm_config_cache: path.join(home, 'cache'),
    npm_config_offline: 'true',
    npm_config_user_agent: `npm/10 node/${process.version} linux ${process.arch} workspaces/false`,
    npm_lifecycle_event: phase,
    npm_lifecycle_script: text,
    npm_node_execpath: process.execPath,
    npm_package_json: path.join(module.place, 'package.json'),
    npm_package_name: String(module.manifest.name),
    npm_package_version: String(module.manifest.version),
  };
}

// A package and all that cannot be without it.
function dependents(module) {
  const found = new Set([module]);
  for (const each of found) {
    for (const other of modules.values()) if (other.needs.includes(each)) found.add(other);
  }
  return found;
}

// Removes packages, and what nobody needs when they are gone.
function drop(gone) {
  const roots = [...plan.wanted, plan.node].map((name) => name && find(name, null));
  const kept = new Set(roots.filter((module) => module && !gone.has(module)));
  for (const each of kept) {
    for (const other of [...each.needs, ...each.likes]) if (!gone.has(other)) kept.add(other);
    // What came inside an archive belongs to it.
    if (each.parent) kept.add(each.parent);
  }
  for (const module of inOrder()) {
    if (kept.has(module)) continue;
    for (const link of module.links || []) fs.rmSync(link, { force: true });
    fs.rmSync(module.place, { recursive: true, force: true });
    modules.delete(module.place);
  }
}

// The commands of a package: names and files inside it.
function commands(module) {
  const { bin, directories } = module.manifest;
  const inside = (file) => path.join(module.place, path.join('/', String(file)));
  let found = [];
  if (typeof bin === 'string') found = [[String(module.manifest.name), bin]];
  else if (bin) found = Object.entries(bin);
  else if (directories && directories.bin) {
    found = list(inside(directories.bin)).map((name) => [name, path.join(String(directories.bin), name)]);
  }
  const named = found.map(([name, file]) => [path.basename(name), inside(file)]);
  return named.filter(([name, file]) => /^[\w.+-]+$/.test(name) && !name.startsWith('.') && fs.existsSync(file));
}

function linkCommands(module) {
  const holder = module.parent ? module.parent.place : plan.root;
  module.links = [];
  for (const [name, file] of commands(module)) {
    fs.chmodSync(file, 0o755);
    const link = path.join(holder, 'node_modules', '.bin', name);
    fs.mkdirSync(path.dirname(link), { recursive: true });
    if (fs.existsSync(link)) continue;
    fs.symlinkSync(path.relative(path.dirname(link), file), link);
    module.links.push(link);
  }
}

// Makes the commands of a wanted package everybody's.
function publish(name) {
  const module = find(name, null);
  if (!module) fail(`${name} is not installed`);
  fs.mkdirSync(COMMANDS, { recursive: true });
  for (const [command, file] of commands(module)) {
    const target = path.join(COMMANDS, command);
    fs.rmSync(target, { force: true });
    if (plan.node) fs.writeFileSync(target, wrapper(file), { mode: 0o755 });
    else fs.symlinkSync(file, target);
  }
}

// Starts a command with the node that it needs. Others find that node only where the image has none: the project's comes first.
function wrapper(file) {
  const node = process.execPath;
  const begin = Buffer.alloc(128);
  const descriptor = fs.openSync(file, 'r');
  fs.readSync(descriptor, begin, 0, begin.length, 0);
  fs.closeSync(descriptor);
  const interpreted = /^#!.*\bnode\b/.test(begin.toString('latin1').split('\n', 1)[0]);
  return `#!/bin/sh\nPATH="$PATH:${path.dirname(node)}" exec ${interpreted ? `${node} ` : ''}${file} "$@"\n`;
}

function fail(text) {
  console.error(`sbx: ${text}`);
  process.exit(1);
}
