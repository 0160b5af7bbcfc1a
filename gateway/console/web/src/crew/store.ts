// What a phone keeps through being closed, restarted and signed out: what the crew did and could not yet tell, the photos
// of that, forms that are half filled in, and the work as it was last heard. Each person's own.
import { openDB, type DBSchema, type IDBPDatabase } from "idb";

import type { Title } from "../api/types";
import type { WorkDetail, WorkItem } from "../work/types";

export type Act =
  | { readonly what: "accept" }
  | { readonly what: "refuse"; readonly reason: string }
  | { readonly what: "on-site"; readonly longitude?: number; readonly latitude?: number; readonly accuracy_m?: number }
  | { readonly what: "photo"; readonly photo: string }
  | { readonly what: "done"; readonly cause_code: string; readonly action: string; readonly by_person: boolean; readonly photos: readonly string[] };

/** What the gateway said when it would not. */
export interface Refusal {
  readonly status: number;
  readonly titles: Title;
  readonly detail: string | undefined;
}

/** Something that was done, in the order of ``id``; ``key`` makes sure that it is done once. */
export interface Entry {
  readonly id: number;
  readonly user: string;
  readonly alarm: string;
  /** What people call it, for when the work itself is no longer known. */
  readonly about: string;
  readonly key: string;
  /** When the person did it, by the phone's clock. */
  readonly at: number;
  readonly act: Act;
  readonly refused: Refusal | null;
}

/** ``sent``: its id at the gateway, once it is there. */
export interface KeptPhoto {
  readonly id: string;
  readonly user: string;
  readonly alarm: string;
  readonly bytes: ArrayBuffer;
  readonly type: string;
  readonly sent: string | null;
}

/** A form of ``done`` that is being filled in: a phone may close the page while its camera is open. */
export interface Draft {
  readonly user: string;
  readonly alarm: string;
  readonly cause: string;
  readonly other: string;
  readonly action: string;
  readonly byPerson: boolean;
  readonly photos: readonly string[];
}

/** The work as it was heard ``at``. */
export interface KeptList {
  readonly user: string;
  readonly at: number;
  readonly items: WorkItem[];
  readonly closed: WorkItem[];
}

export interface KeptDetail {
  readonly user: string;
  readonly alarm: string;
  readonly detail: WorkDetail;
  /** What people call the kind of asset, the points that are waited for, the value, and whom it was given to. */
  readonly names: Readonly<Record<string, Title>>;
}

interface Kept extends DBSchema {
  entries: { key: number; value: Omit<Entry, "id"> & { id?: number }; indexes: { user: string } };
  photos: { key: string; value: KeptPhoto; indexes: { user: string } };
  drafts: { key: [string, string]; value: Draft };
  lists: { key: string; value: KeptList };
  details: { key: [string, string]; value: KeptDetail };
}

export class CrewStore {
  private constructor(private readonly db: IDBPDatabase<Kept>) {}

  static async open(name = "citywatch-crew"): Promise<CrewStore> {
    const db = await openDB<Kept>(name, 1, {
      upgrade(made) {
        made.createObjectStore("entries", { keyPath: "id", autoIncrement: true }).createIndex("user", "user");
        made.createObjectStore("photos", { keyPath: "id" }).createIndex("user", "user");
        made.createObjectStore("drafts", { keyPath: ["user", "alarm"] });
        made.createObjectStore("lists", { keyPath: "user" });
        made.createObjectStore("details", { keyPath: ["user", "alarm"] });
      },
      blocking(_now, _wanted, event) {
        (event.target as IDBDatabase).close(); // a newer page wants another version
      },
    });
    return new CrewStore(db);
  }

  close(): void {
    this.db.close();
  }

  // ------------------------------------------------------------------------------------------------ the queue

  /** Those of a person, in their order. */
  async entries(user: string): Promise<Entry[]> {
    return (await this.db.getAllFromIndex("entries", "user", user)) as Entry[];
  }

  /** Several at once, all or none of them. What was a draft of that alarm is none any more. */
  async add(entries: readonly Omit<Entry, "id">[]): Promise<void> {
    const change = this.db.transaction(["entries", "drafts"], "readwrite", { durability: "strict" });
    for (const entry of entries) {
      void change.objectStore("entries").add(entry);
      if (entry.act.what === "done") void change.objectStore("drafts").delete([entry.user, entry.alarm]);
    }
    await change.done;
  }

  async refuse(id: number, refused: Refusal): Promise<void> {
    await this.change(id, { refused });
  }

  async again(id: number, key: string): Promise<void> {
    await this.change(id, { refused: null, key });
  }

  private async change(id: number, now: Partial<Entry>): Promise<void> {
    const change = this.db.transaction("entries", "readwrite", { durability: "strict" });
    const entry = await change.store.get(id);
    if (entry !== undefined) await change.store.put({ ...entry, ...now });
    await change.done;
  }

  /** It was done, or the person wants it no more: forget it, and photos that nothing names any longer. */
  async remove(entry: Entry): Promise<void> {
    const change = this.db.transaction(["entries", "photos"], "readwrite", { durability: "strict" });
    await change.objectStore("entries").delete(entry.id);
    const photos = change.objectStore("photos");
    if (entry.act.what === "done") for (const photo of entry.act.photos) await photos.delete(photo);
    // A photo that was told stays until the `done` that names it; a dropped one has no id at the gateway.
    if (entry.act.what === "photo" && (await photos.get(entry.act.photo))?.sent === null) await photos.delete(entry.act.photo);
    await change.done;
  }

  // ------------------------------------------------------------------------------------------------ photos, drafts

  async photo(id: string): Promise<KeptPhoto | undefined> {
    return await this.db.get("photos", id);
  }

  async keepPhoto(photo: KeptPhoto): Promise<void> {
    await this.db.put("photos", photo, undefined);
  }

  async forgetPhoto(id: string): Promise<void> {
    await this.db.delete("photos", id);
  }

  async draft(user: string, alarm: string): Promise<Draft | undefined> {
    return await this.db.get("drafts", [user, alarm]);
  }

  async keepDraft(draft: Draft): Promise<void> {
    await this.db.put("drafts", draft);
  }

  // ------------------------------------------------------------------------------------------------ work, to read

  async list(user: string): Promise<KeptList | undefined> {
    return await this.db.get("lists", user);
  }

  async keepList(list: KeptList): Promise<void> {
    await this.db.put("lists", list);
  }

  async detail(user: string, alarm: string): Promise<KeptDetail | undefined> {
    return await this.db.get("details", [user, alarm]);
  }

  async keepDetail(detail: KeptDetail): Promise<void> {
    await this.db.put("details", detail);
  }

  /** Forget the details and drafts of all alarms but these. */
  async forgetOthers(user: string, but: ReadonlySet<string>): Promise<void> {
    const theirs = IDBKeyRange.bound([user], [user, []]);
    const change = this.db.transaction(["details", "drafts", "photos"], "readwrite");
    const [details, drafts] = [change.objectStore("details"), change.objectStore("drafts")];
    for (const key of await details.getAllKeys(theirs)) if (!but.has(key[1])) await details.delete(key);
    for (const draft of await drafts.getAll(theirs)) {
      if (but.has(draft.alarm)) continue;
      for (const photo of draft.photos) await change.objectStore("photos").delete(photo);
      await drafts.delete([user, draft.alarm]);
    }
    await change.done;
  }

  /** Somebody signs out: nobody else reads their work here. What waits to be told stays. */
  async forgetWork(user: string): Promise<void> {
    await this.forgetOthers(user, new Set());
    await this.db.delete("lists", user);
  }
}
