/* The report's style sheet and script. No library: the page must open without a network. */
#include "launch/report_impl.h"

const char *const report_css[] = {
    ":root{--bg:#f7f7f5;--card:#fff;--ink:#20201d;--soft:#6d6d66;--rule:#e3e3de;"
    "--grid:#ecece7;--good:#1f7a4d;--warn:#9a6a00;--bad:#b3261e;--tint:#f0f0ec;--c0:#2b66b1;"
    "--c1:#c8601d;--c2:#2e8b62;--c3:#8b54b0;--c4:#b58a00;--c5:#c03d52;--c6:#148a94;"
    "--c7:#7d6d5c;color-scheme:light dark}\n",
    "@media(prefers-color-scheme:dark){:root{--bg:#151513;--card:#1e1e1b;--ink:#e8e8e2;"
    "--soft:#9c9c93;--rule:#34342f;--grid:#2b2b27;--good:#5cc08d;--warn:#e0b252;"
    "--bad:#f08a80;--tint:#272723;--c0:#6ea8ec;--c1:#ee9557;--c2:#68c498;--c3:#c194e4;"
    "--c4:#d9b445;--c5:#ee8093;--c6:#5cc6cf;--c7:#b8a793}}\n",
    "*{box-sizing:border-box}\n",
    "body{margin:0;background:var(--bg);color:var(--ink);font:14px/1.45 system-ui,"
    "-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\n",
    "main{max-width:1320px;margin:0 auto;padding:24px 28px 60px}\n",
    "h1{font-size:24px;margin:0;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}\n",
    "h2{font-size:16px;margin:34px 0 10px;font-weight:650}\n",
    "h3{font-size:14px;margin:18px 0 8px;font-weight:600}\n",
    "p{margin:6px 0}\n",
    "small,.soft{color:var(--soft);font-size:12.5px;font-weight:400}\n",
    "header{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:baseline}\n",
    ".state{font-weight:600;padding:2px 10px;border-radius:99px;"
    "border:1px solid currentColor;font-size:13px}\n",
    ".good{color:var(--good)}\n",
    ".warn{color:var(--warn)}\n",
    ".bad{color:var(--bad)}\n",
    ".tiles{display:flex;flex-wrap:wrap;gap:1px;background:var(--rule);"
    "border:1px solid var(--rule);border-radius:8px;overflow:hidden;margin:16px 0}\n",
    ".tiles div{background:var(--card);padding:10px 12px;flex:1 1 116px}\n",
    ".tiles b{display:block;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums;"
    "white-space:nowrap}\n",
    ".tiles span{color:var(--soft);font-size:12.5px}\n",
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px}\n",
    "figure{margin:0}\n",
    ".chart{background:var(--card);border:1px solid var(--rule);border-radius:8px;"
    "padding:10px 10px 4px;display:flex;flex-direction:column;"
    "justify-content:space-between}\n",
    "figcaption{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline;"
    "padding:0 4px 4px;min-height:24px}\n",
    ".legend{margin-left:auto;display:flex;flex-wrap:wrap;gap:0 12px;color:var(--soft);"
    "font-size:12.5px}\n",
    ".legend i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px;"
    "background:var(--c)}\n",
    ".legend em{font-style:normal;color:var(--ink);font-variant-numeric:tabular-nums}\n",
    "svg{display:block;width:100%;height:auto;overflow:visible}\n",
    ".grid{stroke:var(--grid)}\n",
    ".tick{fill:var(--soft);font-size:12.5px;font-variant-numeric:tabular-nums}\n",
    ".mark{stroke:var(--soft);stroke-dasharray:3 3}\n",
    ".line{fill:none;stroke:var(--c);stroke-width:1.7;stroke-linejoin:round}\n",
    ".raw{fill:none;stroke:var(--c);stroke-width:.8;opacity:.28}\n",
    ".dot{fill:var(--c)}\n",
    ".area{fill:var(--c);opacity:.78;stroke:var(--card);stroke-width:.5}\n",
    ".cross{stroke:var(--soft);stroke-width:.8}\n",
    ".c0{--c:var(--c0)}\n",
    ".c1{--c:var(--c1)}\n",
    ".c2{--c:var(--c2)}\n",
    ".c3{--c:var(--c3)}\n",
    ".c4{--c:var(--c4)}\n",
    ".c5{--c:var(--c5)}\n",
    ".c6{--c:var(--c6)}\n",
    ".c7{--c:var(--c7)}\n",
    "#tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--bg);"
    "border-radius:6px;padding:5px 9px;font-size:12.5px;line-height:1.4;display:none;"
    "z-index:9;font-variant-numeric:tabular-nums;white-space:nowrap}\n",
    ".control{display:none;gap:8px;align-items:center;margin-left:auto;font-size:13px;"
    "color:var(--soft);font-weight:400}\n",
    ".js .control{display:flex}\n",
    ".bar{display:flex;align-items:baseline;flex-wrap:wrap}\n",
    "input[type=range]{width:150px;accent-color:var(--c0)}\n",
    "table{border-collapse:collapse;background:var(--card);border:1px solid var(--rule);"
    "border-radius:8px;font-variant-numeric:tabular-nums}\n",
    "th,td{padding:5px 14px;text-align:right;border-top:1px solid var(--rule);"
    "white-space:nowrap}\n",
    "th{font-weight:600;color:var(--soft);font-size:12.5px}\n",
    "thead th{border-top:0}\n",
    "th:first-child,td:first-child,.left{text-align:left}\n",
    "td.left{white-space:normal}\n",
    "tr.chance td{color:var(--soft)}\n",
    ".scroll{overflow-x:auto}\n",
    "td.share{background:linear-gradient(to right,color-mix(in srgb,var(--c0) 20%,"
    "transparent) var(--p),transparent var(--p))}\n",
    "td.best{font-weight:650}\n",
    "ul.plain{list-style:none;margin:0;padding:0}\n",
    "ul.plain li{padding:6px 0;border-top:1px solid var(--rule)}\n",
    "ul.plain li:first-child{border-top:0}\n",
    ".panel{background:var(--card);border:1px solid var(--rule);border-radius:8px;"
    "padding:8px 16px}\n",
    "details{margin:8px 0}\n",
    "summary{cursor:pointer;font-weight:600}\n",
    "pre{overflow:auto;max-height:640px;margin:8px 0;padding:12px 16px;"
    "background:var(--tint);border-radius:6px;font:12.5px/1.5 ui-monospace,"
    "'DejaVu Sans Mono',monospace}\n",
    ".kv{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px}\n",
    ".kv>span:nth-child(odd){color:var(--soft)}\n",
    ".kv>span{overflow-wrap:anywhere}\n",
    ".example{background:var(--card);border:1px solid var(--rule);border-radius:8px;"
    "padding:12px 14px;display:flex;gap:18px;align-items:flex-start;margin:8px 0;"
    "break-inside:avoid}\n",
    ".query{flex:0 0 150px}\n",
    ".example.wide{display:block}\n",
    ".wide .query{margin-bottom:10px}\n",
    ".query p{margin:0;font-weight:600;overflow-wrap:anywhere}\n",
    ".ranked{display:grid;grid-template-columns:repeat(auto-fill,minmax(88px,1fr));gap:8px}\n",
    ".shot{font-size:12.5px;min-width:0;max-width:150px}\n",
    ".shot .frame{border:2px solid var(--rule);border-radius:6px;padding:2px;aspect-ratio:1;"
    "display:flex;align-items:center;justify-content:center;overflow:hidden;"
    "background:var(--tint)}\n",
    ".shot.right .frame{border-color:var(--good)}\n",
    ".shot.wrong .frame{border-color:var(--bad)}\n",
    ".frame img{max-width:100%;max-height:100%;border-radius:3px;display:block}\n",
    ".shot p{margin:3px 0 0;overflow-wrap:anywhere}\n",
    ".missing{color:var(--soft);font-size:10.5px;line-height:1.3;padding:3px;"
    "text-align:center;overflow-wrap:anywhere;max-height:100%;overflow:hidden}\n",
    ".said{list-style:none;margin:0;padding:0;flex:1;min-width:0}\n",
    ".said li{display:grid;grid-template-columns:20px 64px 1fr 20px;gap:10px;padding:4px 0;"
    "align-items:baseline;border-top:1px solid var(--rule)}\n",
    ".said li:first-child{border-top:0}\n",
    ".said .n{color:var(--soft);text-align:right}\n",
    ".said .right{color:var(--good);font-weight:600}\n",
    ".four{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:0 12px}\n",
    ".two{display:grid;grid-template-columns:repeat(auto-fill,minmax(560px,1fr));gap:0 12px}\n",
    "@media(max-width:640px){main{padding:14px}.charts,.two{grid-template-columns:1fr}"
    ".example{flex-direction:column}}\n",
    "@media print{.control{display:none!important}body{background:#fff}}\n",
    NULL,
};

const char *const report_js[] = {
    "(function(){\n",
    "'use strict';\n",
    "var data=JSON.parse(document.getElementById('data').textContent);\n",
    "var W=420,H=206,L=50,R=10,T=8,B=26,svgs=document.querySelectorAll('svg[data-chart]');\n",
    "document.documentElement.classList.add('js');\n",
    "function px(c,x){return L+(x-c.axes[0])/(c.axes[1]-c.axes[0])*(W-L-R)}\n",
    "function py(c,y){return T+(c.axes[3]-y)/(c.axes[3]-c.axes[2])*(H-T-B)}\n",
    "function mean(v,w){w=Math.pow(w,700/v.length);var s=0,n=0;return "
    "v.map(function(y){if(y===null)return null;"
    "s=w*s+(1-w)*y;n=w*n+1-w;return s/n})}\n",
    "function path(c,v){var d='',pen=false;v.forEach(function(y,i){if(y===null){pen=false;return}"
    "var p=Math.max(-2*H,Math.min(3*H,py(c,y)));"
    "d+=(pen?'L':'M')+px(c,c.x[i]).toFixed(1)+' '+p.toFixed(1);pen=true});return d}\n",
    "function text(c,y){if(y===null||y===undefined)return '\\u2013';"
    "if(c.percent)return (100*y).toFixed(1)+' %';var a=Math.abs(y);"
    "return a!==0&&(a<1e-3||a>=1e6)?y.toExponential(2):String(+y.toPrecision(4))}\n",
    "function draw(w){svgs.forEach(function(s){var c=data[+s.dataset.chart];if(!c.smooth)return;"
    "var f=s.parentNode.querySelectorAll('.legend em');c.lines.forEach(function(l,i){"
    "l.mean=mean(l.values,w);var p=s.querySelector('[data-line=\"'+i+'\"]');"
    "if(p)p.setAttribute('d',path(c,l.mean));var k=l.mean.filter(function(y){return y!==null});"
    "if(f[i])f[i].textContent=text(c,k[k.length-1])})})}\n",
    "document.querySelectorAll('.control input').forEach(function(e,i,all){"
    "e.addEventListener('input',function(){var w=e.value/100;all.forEach(function(o){"
    "o.value=e.value;o.parentNode.querySelector('output').textContent=w.toFixed(2)});draw(w)})});"
    "\n",
    "var tip=document.createElement('div');tip.id='tip';document.body.appendChild(tip);\n",
    "function show(s,e){var c=data[+s.dataset.chart],r=s.getBoundingClientRect();"
    "var at=c.axes[0]+((e.clientX-r.left)/r.width*W-L)/(W-L-R)*(c.axes[1]-c.axes[0]);"
    "var b=0;c.x.forEach(function(x,i){if(Math.abs(x-at)<Math.abs(c.x[b]-at))b=i});"
    "var t='step '+Math.round(c.x[b]).toLocaleString('en');c.lines.forEach(function(l){"
    "t+='<br>'+l.label+' '+text(c,l.mean?l.mean[b]:l.values[b])+"
    "(l.mean?' ('+text(c,l.values[b])+')':'')});"
    "tip.innerHTML=t;tip.style.display='block';"
    "var x=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8);"
    "tip.style.left=x+'px';tip.style.top=(e.clientY+14)+'px';var g=s.querySelector('.cross');"
    "if(!g){g=document.createElementNS(s.namespaceURI,'line');"
    "g.setAttribute('class','cross');g.setAttribute('y1',T);g.setAttribute('y2',H-B);"
    "s.appendChild(g)}g.setAttribute('x1',px(c,c.x[b]));g.setAttribute('x2',px(c,c.x[b]))}\n",
    "svgs.forEach(function(s){s.addEventListener('pointermove',function(e){show(s,e)});"
    "s.addEventListener('pointerleave',function(){tip.style.display='none';"
    "var g=s.querySelector('.cross');if(g)g.remove()})});\n",
    "draw(0.9);\n",
    "})();\n",
    NULL,
};
