// Asks tandemd about its VMs every second or two, and shows what it says. Only the VMs that can be seen are asked
// about in detail, and nothing is asked while nobody looks.

import {summary} from './model.js';
import {Row} from './row.js';
import {Refused, Server, Silent} from './server.js';

/// Of the frequent ones, and of the others.
const eventsMax = 200;
/// With many VMs each answer costs the daemon more.
const intervalMs = (vms) => (vms > 10 ? 2000 : 1000);
/// Events that come many times a minute when all is well.
const frequent = new Set(['mismatch', 'mode']);

const byId = (id) => document.getElementById(id);
const server = new Server();
const rows = new Map();
let worker = null;
let lastEvent = 0;
let wake = () => {};

const watcher = new IntersectionObserver((entries) => {
  for (const {target, isIntersecting} of entries) {
    const row = rows.get(target.dataset.vm);
    if (row) row.visible = isIntersecting;
  }
  wake();
}, {rootMargin: '200px'});

function showVms(vms, now) {
  const parent = byId('vms');
  for (const [name, row] of rows) {
    if (vms.some((vm) => vm.name === name)) continue;
    watcher.unobserve(row.element);
    row.element.remove();
    rows.delete(name);
  }
  for (const vm of vms) {
    if (!rows.has(vm.name)) {
      const row = new Row(vm.name, parent);
      rows.set(vm.name, row);
      watcher.observe(row.element);
    }
    rows.get(vm.name).look(vm, now);
  }
  byId('no-vms').hidden = vms.length > 0;
  byId('legend').hidden = vms.length === 0;
  byId('summary').textContent = summary(vms);
}

async function observe(row) {
  for (let more = true; more && row.wantsObservations; ) {
    const path = `/v1/vms/${encodeURIComponent(row.vm.name)}/observations?after=${row.history.firstWanted(row.vm)}`;
    try {
      more = row.history.take(await server.get(path), server.now());
    } catch (error) {
      // The pair may have ended since the status.
      if (!(error instanceof Refused)) throw error;
      return;
    }
  }
}

function showEvent(event) {
  const item = document.createElement('li');
  const kind = frequent.has(event.type) ? 'frequent' : 'rare';
  item.className = kind;
  item.hidden = kind === 'frequent' && !byId('all-events').checked;
  const time = document.createElement('time');
  const when = new Date(event.time * 1000);
  time.dateTime = when.toISOString();
  time.textContent = when.toLocaleString();
  const part = (className, text) => {
    const span = document.createElement('span');
    span.className = className;
    span.textContent = text;
    return span;
  };
  item.append(time, part('vm-name', event.vm), part('type', event.type), part('message', event.message));
  const list = byId('events');
  list.prepend(item);
  const same = list.getElementsByClassName(kind);
  if (same.length > eventsMax) same[same.length - 1].remove();
}

async function showEvents() {
  const answer = await server.get(`/v1/events?after=${lastEvent}`);
  for (const event of answer.events) showEvent(event);
  lastEvent = answer.next;
  byId('no-events').hidden = byId('events').querySelector('li:not([hidden])') !== null;
}

function connection(kind, text) {
  const element = byId('connection');
  element.className = kind;
  if (element.textContent !== text) element.textContent = text;
  document.body.classList.toggle('stale', kind === 'silent');
}

async function round() {
  const status = await server.get('/v1/status');
  if (status.worker_pid !== worker) {
    // Another worker counts from the beginning.
    worker = status.worker_pid;
    lastEvent = 0;
    for (const row of rows.values()) row.history.after = null;
    byId('events').replaceChildren();
  }
  byId('host').textContent = `on ${status.host}`;
  document.title = `${status.host} – Tandem`;
  showVms(status.vms, server.now());
  await showEvents();
  for (const row of rows.values()) await observe(row);
  for (const row of rows.values()) row.draw(server.now());
  connection('live', 'live');
}

/// Waits, or until something is worth another round.
function pause(milliseconds) {
  return new Promise((resolve) => {
    wake = resolve;
    setTimeout(resolve, milliseconds);
  });
}

async function run() {
  for (;;) {
    while (document.hidden) await pause(60_000);
    try {
      await round();
      await pause(intervalMs(rows.size));
    } catch (error) {
      const waiting = server.silence();
      if (error instanceof Silent) {
        connection('silent', `tandemd does not answer; asking again in ${Math.round(waiting / 1000)} s`);
      } else if (error instanceof Refused) {
        connection('silent', `tandemd says: ${error.message}`);
      } else {
        connection('silent', 'this page has failed; asking again');
        console.error(error);
      }
      await pause(waiting);
      connection('waiting', 'asking tandemd again');
    }
  }
}

document.addEventListener('visibilitychange', () => wake());
window.addEventListener('online', () => wake());
byId('all-events').addEventListener('change', () => {
  for (const item of byId('events').getElementsByClassName('frequent')) item.hidden = !byId('all-events').checked;
  byId('no-events').hidden = byId('events').querySelector('li:not([hidden])') !== null;
});
run();
