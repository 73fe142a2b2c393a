// The tab "Distributed" in the page's sidebar, and Queue Cluster in its menus.

import { app } from "../../scripts/app.js";
import { Cluster } from "./panel/cluster.js";
import { deedsOf } from "./panel/deeds.js";
import { h, morph } from "./panel/elements.js";
import { previews } from "./panel/previews.js";
import { addQueueCluster, queueCluster } from "./panel/queue_cluster.js";
import { addToRunMenu } from "./panel/run_menu.js";
import { view } from "./panel/view.js";

const COMMAND = "comfy_dist.queueCluster";
const TITLE = "Distributed";

/** The panel on the page; null while the tab is closed. */
let shown = null;

function show() {
  if (shown) morph(shown, view(cluster, pictures, deeds));
}

const cluster = new Cluster(show);
const pictures = previews(show);
const deeds = { ...deedsOf(cluster), queueCluster };

app.registerExtension({
  name: "comfy_dist.panel",
  commands: [{ id: COMMAND, label: "Queue Cluster", icon: "pi pi-sitemap", function: queueCluster }],
  menuCommands: [{ path: ["Extensions", TITLE], commands: [COMMAND] }],
  setup() {
    document.head.append(h("link", { rel: "stylesheet", href: new URL("panel/panel.css", import.meta.url) }));
    addQueueCluster();
    addToRunMenu("Queue Cluster", queueCluster);
    app.extensionManager.registerSidebarTab({
      id: "comfy_dist",
      icon: "pi pi-sitemap",
      title: TITLE,
      tooltip: TITLE,
      type: "custom",
      render(container) {
        // The page renders again without having closed the tab.
        if (shown?.parentNode === container) return;
        shown = view(cluster, pictures, deeds);
        container.replaceChildren(shown);
        cluster.open();
      },
      destroy() {
        cluster.close();
        shown = null;
      },
    });
  },
});
