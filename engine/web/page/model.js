// What the page knows of a VM over time, and the words and numbers it is shown in. No DOM here.

export const windowSeconds = 300;
/// More than this many checkpoints are not asked for when a VM comes into view.
const recordsMax = 1500;
/// An answer with as many observations may not be the last.
const fullAnswer = 100;
/// Between two looks at the held output; a longer silence is a gap.
const sampleGapSeconds = 15;

/// What a VM has done in the last minutes: its checkpoints, and the output that was held at each look.
export class History {
  #records = [];
  #held = [];
  #generation = null;
  /// The number of the newest observation that is known; null: none was asked for.
  after = null;

  /// Notes what a status says at `now`.
  look(vm, now) {
    if (vm.generation !== this.#generation) {
      // The numbers of another pair's observations have nothing to do with these.
      this.#generation = vm.generation;
      this.after = null;
    }
    const joined = this.#held.length > 0 && now - this.#held.at(-1).at < sampleGapSeconds;
    this.#held.push({at: now, value: vm.gate.held_bytes, joined});
    this.#trim(now);
  }

  /// What to ask for next.
  firstWanted(vm) {
    return this.after ?? Math.max(0, (vm.controller?.decisions ?? 0) - recordsMax);
  }

  /// Takes an answer of /observations in; true if there is more to ask for.
  take(answer, now) {
    for (const record of answer.records) {
      if (record.observation) this.#records.push(this.#cycle(record));
    }
    this.after = answer.next;
    this.#trim(now);
    return answer.records.length >= fullAnswer;
  }

  get checkpoints() {
    return this.#records.length;
  }

  /// Of each checkpoint {at, value, joined}, oldest first; `joined`: to the one before, without a gap.
  points(value) {
    const points = [];
    for (const record of this.#records) {
      const number = value(record);
      if (number !== undefined) points.push({at: record.time, value: number, joined: record.joined});
    }
    return points;
  }

  /// The same of held output.
  held() {
    return this.#held;
  }

  /// [{mode, from, until}], oldest first; the present mode goes on until `now`.
  modes(present, now) {
    const spans = [];
    const add = (mode, from, until) => {
      const last = spans.at(-1);
      if (last?.mode === mode && from - last.until < 1) last.until = until;
      else spans.push({mode, from, until});
    };
    for (const record of this.#records) {
      add(record.observation.mode, record.began, record.time);
    }
    if (present) {
      const newest = spans.at(-1);
      add(present, newest ? newest.until : now, now);
    }
    return spans;
  }

  #cycle(record) {
    const {pause_s, uptime_s} = record.observation;
    const began = record.time - pause_s - uptime_s;
    const before = this.#records.at(-1);
    return {...record, began, joined: before !== undefined && began - before.time < 1};
  }

  #trim(now) {
    const oldest = now - windowSeconds - 60;
    const drop = (list, time) => {
      const keep = list.findIndex((item) => time(item) >= oldest);
      list.splice(0, keep < 0 ? list.length : keep);
    };
    drop(this.#records, (record) => record.time);
    drop(this.#held, (sample) => sample.at);
  }
}

/// How a VM stands: {text, kind}.
export function standing(vm) {
  const {peer, role, state} = vm;
  if (role === 'primary') {
    return vm.protected ? {text: `protected by ${peer}`, kind: 'good'} : {text: `${state} (${peer})`, kind: 'warn'};
  }
  if (role === 'secondary') {
    return vm.protected ? {text: `copy of ${peer}'s VM`, kind: 'good'} : {text: `copy of ${peer}'s VM: ${state}`, kind: 'warn'};
  }
  if (role === 'solo') return {text: `goes on alone, unprotected`, kind: 'bad'};
  return state === 'stopped' ? {text: 'does not run', kind: 'idle'} : {text: 'runs unprotected', kind: 'warn'};
}

/// One line about all of them.
export function summary(vms) {
  const count = (what, some) => (some.length ? `${some.length} ${what}` : null);
  const parts = [
    count('protected', vms.filter((vm) => vm.role === 'primary' && vm.protected)),
    count('copies of a peer’s', vms.filter((vm) => vm.role === 'secondary')),
    count('not protected', vms.filter((vm) => vm.state !== 'stopped' && vm.role !== 'secondary' && !vm.protected)),
    count('stopped', vms.filter((vm) => vm.state === 'stopped')),
  ];
  return [`${vms.length} VM${vms.length === 1 ? '' : 's'}`, ...parts.filter(Boolean)].join(', ');
}

export function milliseconds(value) {
  if (value >= 1000) return `${+(value / 1000).toPrecision(3)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function ratio(value) {
  return `${+value.toPrecision(2)}`;
}

export function count(value) {
  return `${Math.round(value)}`;
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    ++unit;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/// The end of an axis that holds `largest`: 1, 2 or 5 times a power of ten.
export function axisEnd(largest, least) {
  if (largest <= least) return least;
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map((step) => step * power).find((end) => end >= largest * (1 - 1e-9));
}

/// Of bytes: a power of two.
export function axisEndOfBytes(largest) {
  return largest <= 1024 ? 1024 : 2 ** Math.ceil(Math.log2(largest));
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString();
}
